/** Parts in the order in which they came; one is checked at a time. */

import { headline } from "./headline";
import { missing, partName, roleOf, type Files, type Role } from "./pairing";
import type { Answer, Model } from "./records";
import { predict, ServiceError } from "./service";
import { words } from "./words";

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

const CAMERA = ["fx", "fy", "cx", "cy"] as const;
type Camera = Record<(typeof CAMERA)[number], number | null>;

const pause = (seconds: number): Promise<void> =>
  new Promise((resume) => setTimeout(resume, seconds * 1000));

class Queue {
  parts = $state<Part[]>([]);
  chosen = $state<string>("");
  camera = $state<Camera>({ fx: null, fy: null, cx: null, cy: null });
  spoken = $state("");
  #count = 0;
  #running = false;

  get part(): Part | undefined {
    return this.parts.find((part) => part.id === this.chosen);
  }

  get wantsCamera(): boolean {
    return this.parts.some((part) => part.files.depth && part.state !== "done");
  }

  add(files: File[], model: Model): void {
    const touched: Part[] = [];
    for (const file of [...files].sort((a, b) =>
      a.name.localeCompare(b.name, "en", { numeric: true }),
    )) {
      const role = roleOf(file, model);
      const part = role ? this.#home(partName(file), role, model) : this.#fresh(file.name, model);
      if (role) part.files = { ...part.files, [role]: file };
      else {
        part.state = "refused";
        part.message = words.queue.unknown(file.name, words.queue.accepted[model.wing]);
      }
      if (!touched.includes(part)) touched.push(part);
    }
    if (touched[0]) this.chosen = touched[0].id;
    this.settle();
  }

  /** Send on what has become complete. */
  settle(): void {
    for (const part of this.parts) {
      if (part.state !== "waiting") continue;
      if (part.lacks.length > 0) part.message = words.queue.missing(part.lacks);
      else if (part.files.depth && !this.#cameraKnown) part.message = words.camera.wanted;
      else this.enqueue(part);
    }
  }

  enqueue(part: Part): void {
    part.state = "queued";
    part.message = "";
    void this.#run();
  }

  remove(part: Part): void {
    const at = this.parts.indexOf(part);
    this.parts.splice(at, 1);
    if (this.chosen === part.id) this.chosen = (this.parts[at] ?? this.parts[at - 1])?.id ?? "";
  }

  clear(): void {
    this.parts = this.parts.filter((part) => part.state === "checking");
    this.chosen = this.parts[0]?.id ?? "";
  }

  get #cameraKnown(): boolean {
    return CAMERA.every((name) => Number.isFinite(this.camera[name] ?? NaN));
  }

  #home(name: string, role: Role, model: Model): Part {
    const open = this.parts.find(
      (part) =>
        part.name === name &&
        part.model.name === model.name &&
        part.state === "waiting" &&
        !part.files[role],
    );
    return open ?? this.#fresh(name, model);
  }

  #fresh(name: string, model: Model): Part {
    const part = new Part(`part-${++this.#count}`, name, model);
    this.parts.push(part);
    return part;
  }

  async #run(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    for (let part = this.#next(); part; part = this.#next()) await this.#check(part);
    this.#running = false;
  }

  #next(): Part | undefined {
    return this.parts.find((part) => part.state === "queued");
  }

  async #check(part: Part): Promise<void> {
    part.state = "checking";
    try {
      part.answer = await predict(part.model.name, this.#fields(part));
      part.state = "done";
    } catch (error) {
      if (error instanceof ServiceError && error.status === 429) {
        part.message = words.queue.busy;
        await pause(error.retryAfter);
        part.state = "queued";
        return;
      }
      part.message = error instanceof Error ? error.message : `${error}`;
      part.state = "refused";
    }
    this.spoken = words.verdict.spoken(part.name, ...headline(part));
  }

  #fields(part: Part): FormData {
    const form = new FormData();
    for (const [role, file] of Object.entries(part.files)) form.set(role, file, file.name);
    if (part.files.depth && !part.files.xyz)
      for (const name of CAMERA) form.set(name, `${this.camera[name]}`);
    return form;
  }
}

export const queue = new Queue();
