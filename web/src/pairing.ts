/** Which files belong together, from their names alone. */

import type { Model } from "./records";

export type Role = "rgb" | "xyz" | "depth" | "image" | "series";
export type Files = Partial<Record<Role, File>>;

const MARKS: Record<string, Role> = {
  rgb: "rgb",
  colour: "rgb",
  color: "rgb",
  image: "rgb",
  img: "rgb",
  xyz: "xyz",
  points: "xyz",
  cloud: "xyz",
  depth: "depth",
  z: "depth",
  prpd: "image",
  pattern: "image",
  csv: "series",
  series: "series",
  pulses: "series",
};

// A folder of these names holds one modality of many parts, as in MVTec 3D-AD.
const words = (text: string): string[] =>
  text
    .toLowerCase()
    .split(/[^\p{L}\p{N}]+/u)
    .filter(Boolean);
const ending = (name: string): string => name.toLowerCase().match(/\.([a-z0-9]+)$/)?.[1] ?? "";

function place(file: File): string[] {
  const path = (file as File & { relativePath?: string; path?: string }).relativePath ?? file.name;
  return path.split("/").filter((step) => step !== "" && step !== ".");
}

/** What a file is to a model; null where the model does not read it. */
export function roleOf(file: File, model: Model): Role | null {
  const end = ending(file.name);
  const steps = place(file);
  const marks = [
    ...words(steps.at(-1)?.replace(/\.[^.]+$/, "") ?? ""),
    ...words(steps.at(-2) ?? ""),
  ];
  const marked = marks.map((word) => MARKS[word]).find((role) => role !== undefined);
  if (model.wing === "classifier") {
    if (end === "csv") return "series";
    if (end === "npy") return marked === "series" ? "series" : "image";
    return ["png", "jpg", "jpeg"].includes(end) ? "image" : null;
  }
  if (["tif", "tiff"].includes(end)) return marked === "depth" ? "depth" : "xyz";
  if (end === "npy") return marked === "xyz" || marked === "depth" ? marked : "rgb";
  if (end === "png") return marked === "depth" ? "depth" : "rgb";
  return ["jpg", "jpeg"].includes(end) ? "rgb" : null;
}

/** What two files of one part have in common: the path without the words that name a modality. */
export function partName(file: File): string {
  const steps = place(file);
  const stem = (steps.pop() ?? "").replace(/\.[^.]+$/, "");
  const bare = stem
    .split(/([_\-. ]+)/)
    .filter((word) => !(word.toLowerCase() in MARKS))
    .join("")
    .replace(/^[_\-. ]+|[_\-. ]+$/g, "")
    .replace(/([_\-. ])[_\-. ]+/g, "$1");
  const folders = steps.filter((step) => !(step.toLowerCase() in MARKS));
  return [...folders, bare || stem].join("/");
}

/** What a model still needs of a part before it can be checked. */
export function missing(files: Files, model: Model): Role[] {
  const lacks: Role[] = [];
  if (model.wing === "classifier") {
    if (model.modalities.includes("image") && !files.image) lacks.push("image");
    if (model.modalities.includes("series") && !files.series) lacks.push("series");
  } else {
    if (model.modalities.includes("rgb") && !files.rgb) lacks.push("rgb");
    if (model.modalities.includes("geometry") && !files.xyz && !files.depth) lacks.push("xyz");
  }
  return lacks;
}
