/** What files do not say of the instrument that made them. */

import type { CameraRole, Files } from "./pairing";

const CENTRES = ["fx", "fy", "cx", "cy"] as const;
export type Centre = (typeof CENTRES)[number];
/** Fields of a 3D sensor, as the service names them; "" is what the file says. */
export type SensorField =
  "unit" | "pitch" | "pitch_y" | "offset" | "direction" | "missing" | "intensity" | "bits";
/** Fields of a recorder. */
export type RecorderField =
  | "sample_rate"
  | "layout"
  | "columns"
  | "raw_type"
  | "header_bytes"
  | "raw_channels"
  | "variable"
  | "time_unit"
  | "phase_unit"
  | "amplitude_grows";

class Instrument {
  /** Of the camera behind a depth image, pixels. */
  camera = $state<Record<Centre, number | null>>({ fx: null, fy: null, cx: null, cy: null });
  /** Files of cameras, in place of the four numbers. */
  cameras = $state.raw<Partial<Record<CameraRole, File>>>({});
  sensor = $state<Record<SensorField, string>>({
    unit: "",
    pitch: "",
    pitch_y: "",
    offset: "",
    direction: "",
    missing: "",
    intensity: "",
    bits: "",
  });
  /** Of the mains, Hz. */
  frequency = $state(60);
  /** Values of a series; null is what the file says. */
  perCycle = $state<number | null>(null);
  recorder = $state<Record<RecorderField, string>>({
    sample_rate: "",
    layout: "",
    columns: "",
    raw_type: "",
    header_bytes: "",
    raw_channels: "",
    variable: "",
    time_unit: "",
    phase_unit: "",
    amplitude_grows: "",
  });
  /** The apparatus that is recorded, or "". */
  asset = $state("");

  /** Whether a depth image, or a map of heights, can be placed in space. */
  get cameraKnown(): boolean {
    return this.cameras.intrinsics !== undefined || this.sensor.pitch !== "" || this.#numbered;
  }

  get #numbered(): boolean {
    return CENTRES.every((name) => Number.isFinite(this.camera[name] ?? NaN));
  }

  keep(role: CameraRole, file: File | undefined): void {
    const { [role]: _, ...others } = this.cameras;
    this.cameras = file ? { ...others, [role]: file } : others;
  }

  /** The fields that the service wants beside these files. */
  fields(files: Files): [string, string][] {
    const out: [string, string][] = [];
    const given = (values: Record<string, string>): void => {
      for (const [name, value] of Object.entries(values))
        if (`${value ?? ""}`.trim()) out.push([name, `${value}`]);
    };
    if (files.depth || files.xyz) {
      if (this.#numbered && !this.cameras.intrinsics)
        for (const name of CENTRES) out.push([name, `${this.camera[name]}`]);
      given(this.sensor);
    } else if (files.rgb) given({ bits: this.sensor.bits });
    if (files.series) {
      out.push(["frequency", `${this.frequency}`]);
      if (this.perCycle) out.push(["samples_per_cycle", `${this.perCycle}`]);
      given(this.recorder);
    }
    if ((files.series || files.image) && this.asset.trim()) out.push(["asset", this.asset.trim()]);
    return out;
  }

  /** The files of cameras that the service wants beside these files. */
  attached(files: Files): [string, File][] {
    return files.depth || files.xyz ? Object.entries(this.cameras) : [];
  }
}

export const instrument = new Instrument();
