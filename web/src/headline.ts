/** What is said of a part at one glance: a word, a sentence and a mood. */

import type { Part } from "./part.svelte";
import { words } from "./words";

/** `named` is a fault that has been named; `calm` is nothing yet. */
export type Mood = "good" | "bad" | "unsure" | "named" | "calm";

/** The word and the sentence that stand for a part at one glance. */
export function headline(part: Part): [string, string] {
  const { answer } = part;
  if (part.state === "refused") return [words.verdict.refused, part.message];
  if (part.state !== "done" || !answer)
    return [words.verdict[part.state === "done" ? "checking" : part.state], part.message];
  if (answer.wing === "detector")
    return [
      answer.defective === null
        ? words.verdict.undecided
        : answer.defective
          ? words.verdict.defective
          : words.verdict.good,
      words.verdict.plain(answer.p_value, answer.defective),
    ];
  if (answer.kind === null || answer.kind === "unknown")
    return [words.verdict.unknown, words.diagnosis.unknownSentence];
  return [
    answer.kind,
    words.diagnosis.sentence(answer.kind, answer.probabilities[answer.kind] ?? 0),
  ];
}

export function mood(part: Part): Mood {
  const { answer } = part;
  if (part.state === "refused") return "unsure";
  if (part.state !== "done" || !answer) return "calm";
  if (answer.wing === "classifier") return moodOf(answer.kind ?? "undecided");
  return answer.defective === null ? "unsure" : answer.defective ? "bad" : "good";
}

/** The mood of a decision as the log has it: of a part, or a kind of discharge. */
export function moodOf(decision: string): Mood {
  const moods: Record<string, Mood> = {
    good: "good",
    normal: "good",
    defective: "bad",
    unknown: "unsure",
    undecided: "unsure",
    error: "unsure",
  };
  return moods[decision] ?? "named";
}
