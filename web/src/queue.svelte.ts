/** Parts in the order in which they came; one is checked at a time. */

import { headline } from "./headline";
import { instrument } from "./instrument.svelte";
import { cameraRole, partName, roleOf, type Role } from "./pairing";
import { Part } from "./part.svelte";
import type { Logged, Model } from "./records";
import { predict, ServiceError } from "./service";
import { words } from "./words";

const byName = (a: File, b: File): number => a.name.localeCompare(b.name, "en", { numeric: true });
const pause = (seconds: number): Promise<void> =>
  new Promise((resume) => setTimeout(resume, seconds * 1000));

class Queue {
  parts = $state<Part[]>([]);
  chosen = $state("");
  /** What a screen reader says when an answer arrives. */
  spoken = $state("");
  #count = 0;
  #running = false;

  of(model: Model): Part[] {
    return this.parts.filter((part) => part.model.name === model.name);
  }

  /** The part that is looked at; of another model's parts none is. */
  shown(model: Model): Part | undefined {
    const parts = this.of(model);
    return parts.find((part) => part.id === this.chosen) ?? parts[0];
  }

  add(files: File[], model: Model): void {
    const parts = files.filter((file) => {
      const camera = cameraRole(file, model);
      if (camera) instrument.keep(camera, file);
      return !camera;
    });
    const touched = parts.sort(byName).map((file) => this.#place(file, model));
    if (touched[0]) this.chosen = touched[0].id;
    this.settle();
  }

  /** Send on what has become complete. */
  settle(): void {
    for (const part of this.parts) {
      if (part.state !== "waiting") continue;
      if (part.lacks.length > 0) part.message = words.queue.missing(part.lacks);
      else if (part.files.depth && !part.files.xyz && !instrument.cameraKnown)
        part.message = words.camera.wanted;
      else this.enqueue(part);
    }
  }

  enqueue(part: Part): void {
    part.state = "queued";
    part.message = "";
    void this.#run();
  }

  /** Look at a part of the log again; its pictures are there for as long as the service keeps them. */
  recall(row: Logged, model: Model): void {
    const known = this.parts.find((part) => part.answer?.id === row.id);
    const part = known ?? this.#fresh(row.source, model);
    if (!known && row.score !== null) {
      const at = `v1/verdicts/${row.id}`;
      const rgb = { rgb: `${at}/rgb.png`, heat_rgb: `${at}/map.png` };
      const shape = {
        depth: `${at}/depth.png`,
        heat_depth: `${at}/map.png`,
        points: `${at}/points`,
      };
      part.answer = {
        ...row,
        wing: "detector",
        score: row.score,
        defective: row.decision === "undecided" ? null : row.decision === "defective",
        notes: [words.history.looked],
        links: {
          ...(model.modalities.includes("rgb") ? rgb : {}),
          ...(model.modalities.includes("geometry") ? shape : {}),
        },
      };
      part.state = "done";
    }
    part.says = row.correction ?? "";
    this.chosen = part.id;
  }

  remove(part: Part): void {
    const at = this.parts.indexOf(part);
    this.parts.splice(at, 1);
    if (this.chosen === part.id) this.chosen = (this.parts[at] ?? this.parts[at - 1])?.id ?? "";
  }

  clear(model: Model): void {
    this.parts = this.parts.filter(
      (part) => part.model.name !== model.name || part.state === "checking",
    );
  }

  #place(file: File, model: Model): Part {
    const role = roleOf(file, model);
    if (role) {
      const part = this.#home(partName(file), role, model);
      part.files = { ...part.files, [role]: file };
      return part;
    }
    const part = this.#fresh(file.name, model);
    part.state = "refused";
    part.message = words.queue.unknown(file.name, words.queue.accepted[model.wing]);
    return part;
  }

  /** The part that waits for such a file, or a new one. */
  #home(name: string, role: Role, model: Model): Part {
    const open = this.of(model).find(
      (part) => part.name === name && part.state === "waiting" && !part.files[role],
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
      part.answer = await predict(part.model.name, form(part));
      part.message = "";
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
}

function form(part: Part): FormData {
  const out = new FormData();
  for (const [role, file] of Object.entries(part.files)) out.set(role, file, file.name);
  for (const [name, value] of instrument.fields(part.files)) out.set(name, value);
  for (const [name, file] of instrument.attached(part.files)) out.set(name, file, file.name);
  return out;
}

export const queue = new Queue();
