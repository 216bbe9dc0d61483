/** The services that share the log, and what an operator should mend. */

import type { ServiceReport, ServiceState } from "./records";
import { state } from "./service";

class Neighbours {
  state = $state.raw<ServiceState | null>(null);

  get notices(): string[] {
    return this.state?.notices ?? [];
  }

  get services(): ServiceReport[] {
    return this.state?.services ?? [];
  }

  /** Named stations, for filters. */
  get stations(): string[] {
    return (this.state?.stations ?? []).filter((name) => name !== "");
  }

  async ask(): Promise<void> {
    try {
      this.state = await state();
    } catch {
      // The page says already that the service does not answer.
    }
  }
}

export const neighbours = new Neighbours();
