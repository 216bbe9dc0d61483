/** One part or recording on its way to an answer. */

import { missing, type Files, type Role } from "./pairing";
import type { Answer, Model } from "./records";

export type State = "waiting" | "queued" | "checking" | "done" | "refused";

export class Part {
  files = $state.raw<Files>({});
  state = $state<State>("waiting");
  message = $state("");
  answer = $state.raw<Answer | null>(null);
  says = $state("");

  constructor(
    readonly id: string,
    readonly name: string,
    readonly model: Model,
  ) {}

  get lacks(): Role[] {
    return missing(this.files, this.model);
  }
}
