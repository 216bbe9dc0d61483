/** What files do not say of the instrument that made them. */

import type { Files } from "./pairing";

const CENTRES = ["fx", "fy", "cx", "cy"] as const;

class Instrument {
  /** Of the camera behind a depth image, pixels. */
  camera = $state<Record<(typeof CENTRES)[number], number | null>>({
    fx: null,
    fy: null,
    cx: null,
    cy: null,
  });
  /** Metres in one count of a depth image. */
  unit = $state("0.001");
  /** Of the mains, Hz. */
  frequency = $state(60);
  perCycle = $state(128);
  /** The apparatus that is recorded, or "". */
  asset = $state("");

  get cameraKnown(): boolean {
    return CENTRES.every((name) => Number.isFinite(this.camera[name] ?? NaN));
  }

  /** The fields that the service wants beside these files. */
  fields(files: Files): [string, string][] {
    const out: [string, string][] = [];
    if (files.depth && !files.xyz) {
      for (const name of CENTRES) out.push([name, `${this.camera[name]}`]);
      out.push(["depth_unit", this.unit]);
    }
    if (files.series) {
      out.push(["frequency", `${this.frequency}`], ["samples_per_cycle", `${this.perCycle}`]);
    }
    if ((files.series || files.image) && this.asset.trim()) out.push(["asset", this.asset.trim()]);
    return out;
  }
}

export const instrument = new Instrument();
