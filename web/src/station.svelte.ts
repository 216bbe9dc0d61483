/** The models of the service, which one is chosen, and which view is open. */

import type { Model } from "./records";
import { models } from "./service";

export const VIEWS = ["inspect", "history", "assets", "drift", "stations"] as const;
export type View = (typeof VIEWS)[number];

const opened = (): View => VIEWS.find((view) => location.hash === `#${view}`) ?? "inspect";

class Station {
  models = $state.raw<Model[]>([]);
  name = $state("");
  view = $state<View>(opened());
  asked = $state(false);
  trouble = $state("");

  get model(): Model | undefined {
    return this.models.find((model) => model.name === this.name) ?? this.models[0];
  }

  async ask(): Promise<void> {
    try {
      this.models = await models();
      this.trouble = "";
    } catch (error) {
      this.trouble = error instanceof Error ? error.message : `${error}`;
    }
    this.asked = true;
  }

  turn(): void {
    this.view = opened();
  }
}

export const station = new Station();
