/** A pulse series by phase: how often each amplitude was met in each part of the mains cycle. */

const BINS = 128;
const LEVELS = 96;

export interface PulsesByPhase {
  /** Counts, phase by phase; the lowest amplitude first. */
  counts: Float64Array;
  bins: number;
  levels: number;
  /** Cycles that were added up. */
  cycles: number;
  lowest: number;
  highest: number;
}

/** Read a table of numbers as one value after the other; null where it is none. */
export async function valuesOf(file: File): Promise<Float64Array | null> {
  const fields = (await file.text())
    .replace(/^\ufeff/, "")
    .split(/[\s,;]+/)
    .filter((field) => field !== "");
  const values = Float64Array.from(fields, Number);
  return values.length > 0 && values.every(Number.isFinite) ? values : null;
}

/** Add up whole cycles of so many values; null where there is not one. */
export function byPhase(values: Float64Array, perCycle: number): PulsesByPhase | null {
  const cycles = Math.floor(values.length / perCycle);
  if (!Number.isInteger(perCycle) || perCycle < 2 || cycles < 1) return null;
  const bins = Math.min(BINS, perCycle);
  const counts = new Float64Array(bins * LEVELS);
  const seen = values.subarray(0, cycles * perCycle);
  let [lowest, highest] = [Infinity, -Infinity];
  for (const value of seen) {
    lowest = Math.min(lowest, value);
    highest = Math.max(highest, value);
  }
  const reach = highest - lowest || 1;
  seen.forEach((value, i) => {
    const bin = Math.floor(((i % perCycle) * bins) / perCycle);
    const level = Math.min(LEVELS - 1, Math.floor(((value - lowest) / reach) * LEVELS));
    counts[bin * LEVELS + level]! += 1;
  });
  return { counts, bins, levels: LEVELS, cycles, lowest, highest };
}
