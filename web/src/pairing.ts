/** Which files belong together, from their names alone. */

import type { Model } from "./records";

export type Role =
  "rgb" | "xyz" | "depth" | "image" | "series" | "series_phase" | "series_time" | "series_settings";
/** Files of the cameras, which hold for all parts. */
export type CameraRole = "intrinsics" | "colour_intrinsics" | "extrinsic";
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
  height: "depth",
  heights: "depth",
  range: "depth",
  prpd: "image",
  pattern: "image",
  csv: "series",
  series: "series",
  pulses: "series",
};

const COLOURS = ["png", "jpg", "jpeg", "bmp", "webp"];
const TIFFS = ["tif", "tiff"];
/** Formats that may hold colours or intensities beside the points. */
const CLOUDS = ["ply", "pcd", "npz", "csv", "txt", "tsv", "xyz"];
const SHAPES = [...CLOUDS, ...["exr", "pgm", "pfm"]];
const SERIES = [
  ...["csv", "txt", "tsv", "asc", "dat", "lvm", "prn", "npy", "npz", "mat", "xml", "wav", "h5", "hdf5"],
  ...["bin", "raw", "i16", "f32"],
];
const FACTS = ["json", "yaml", "yml", "ini"];
const CAMERA_WORDS = ["intrinsic", "intrinsics", "extrinsic", "extrinsics", "camera", "cameras"];
/** A monitor's files of one recording. */
const MONITOR = /-(A|P|Ti|SG)\.(txt|csv)$/i;
const MONITOR_ROLES: Record<string, Role> = {
  a: "series",
  p: "series_phase",
  ti: "series_time",
  sg: "series_settings",
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
    const monitor = file.name.match(MONITOR)?.[1];
    if (monitor) return MONITOR_ROLES[monitor.toLowerCase()] ?? null;
    if (end === "npy" && (marked === "image" || marked === "rgb")) return "image";
    if (SERIES.includes(end)) return "series";
    return [...COLOURS, ...TIFFS].includes(end) ? "image" : null;
  }
  const flat = !model.modalities.includes("geometry");
  if (TIFFS.includes(end))
    return flat || marked === "rgb" ? "rgb" : marked === "depth" ? "depth" : "xyz";
  if (end === "npy" && (flat || marked === "rgb" || marked === "image")) return "rgb";
  if (end === "npy") return marked === "depth" ? "depth" : "xyz";
  if (end === "png") return marked === "depth" ? "depth" : "rgb";
  if (SHAPES.includes(end)) return marked === "depth" ? "depth" : "xyz";
  return COLOURS.includes(end) ? "rgb" : null;
}

/** Which camera a file of facts is of; null for another file. */
export function cameraRole(file: File, model: Model): CameraRole | null {
  const end = ending(file.name);
  const marks = words(file.name);
  const mat = end === "mat" && model.wing === "detector";
  const told = ["txt", "npy"].includes(end) && marks.some((word) => CAMERA_WORDS.includes(word));
  const text = model.wing === "detector" && told;
  if (model.wing === "classifier" || !(FACTS.includes(end) || mat || text)) return null;
  if (marks.some((word) => ["extrinsic", "extrinsics", "to"].includes(word))) return "extrinsic";
  if (marks.some((word) => ["colour", "color", "rgb"].includes(word))) return "colour_intrinsics";
  return "intrinsics";
}

/** What two files of one part have in common: the path without the words that name a modality. */
export function partName(file: File): string {
  const steps = place(file);
  const stem = (steps.pop() ?? "").replace(MONITOR, "").replace(/\.[^.]+$/, "");
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
    // A cloud may hold the colours; the service says where it does not.
    const within = files.xyz !== undefined && CLOUDS.includes(ending(files.xyz.name));
    if (model.modalities.includes("rgb") && !files.rgb && !within) lacks.push("rgb");
    if (model.modalities.includes("geometry") && !files.xyz && !files.depth) lacks.push("xyz");
  }
  return lacks;
}
