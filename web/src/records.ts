/** What travels between the service and the page, as the service writes it. */

export type Wing = "detector" | "classifier";

export interface Histogram {
  edges: number[];
  counts: number[];
}

export interface Model {
  name: string;
  wing: Wing;
  model_hash: string;
  precision: string;
  modalities: string[];
  kinds: string[];
  false_alarm_rate: number | null;
  threshold: number | null;
  promise: string;
  calibration: Histogram | null;
  /** Of a model of several products: these are models of their own names, too. */
  products: string[];
}

export interface Links {
  rgb?: string;
  depth?: string;
  heat_rgb?: string;
  heat_depth?: string;
  pattern?: string;
  points?: string;
}

export interface Verdict {
  wing: "detector";
  id: string;
  model: string;
  source: string;
  score: number;
  p_value: number | null;
  defective: boolean | null;
  threshold: number | null;
  latency_ms: number;
  notes: string[];
  links: Links;
}

export interface Diagnosis {
  wing: "classifier";
  id: string;
  model: string;
  source: string;
  kind: string | null;
  probabilities: Record<string, number>;
  opinions: Record<string, Record<string, number>>;
  uncertainty: number | null;
  conflict: number | null;
  quantities?: Record<string, unknown> | null;
  severity?: Severity | null;
  sources?: Source[];
  latency_ms: number;
  notes: string[];
  links: Links;
}

export interface Severity {
  level: "low" | "medium" | "high";
  reasons: string[];
  levels: string;
}

/** One of several sources that are active in a recording. */
export interface Source {
  kind: string;
  share_of_charge: number;
}

export type Answer = Verdict | Diagnosis;

export type Says = "right" | "false alarm" | "missed";

/** A row of the log. */
export interface Logged {
  id: string;
  time: string;
  model: string;
  source: string;
  score: number | null;
  p_value: number | null;
  threshold: number | null;
  decision: string;
  latency_ms: number;
  error: string;
  station: string;
  model_hash: string;
  correction: Says | null;
}

/** What a service that shares the log last reported. */
export interface ServiceReport {
  name: string;
  station: string;
  seen: string;
  silent: boolean;
  chiasm: string;
  waiting: number;
  models: Record<string, { model_hash: string; calibration: string; threshold: number | null }>;
}

export interface ServiceState {
  name: string;
  station: string;
  log: { mode: "database" | "delivering" | "spool"; waiting: number; writable: boolean };
  notices: string[];
  services: ServiceReport[];
  stations: string[];
  outlets: OutletState[];
}

/** A system of the plant that gets the verdicts. */
export interface OutletState {
  name: string;
  kind: string;
  where: string;
  state: "ready" | "sent" | "waiting" | "failed";
  waiting: number;
  sent: number;
  last_sent: string | null;
  aside: number;
  why: string;
}

/** What decides on parts, and what is promised. */
export interface Rule {
  threshold: number | null;
  false_alarm_rate: number | null;
  confidence: number | null;
  promise: string;
}

/** A threshold beside another one, and what both say of recent parts. */
export interface Threshold {
  before: Rule;
  after: Rule;
  recent: number;
  alarms_before: number;
  alarms_after: number;
  may_change: boolean;
}

export interface LogPage {
  rows: Logged[];
  total: number | null;
}

export interface LogFilter {
  model: string;
  decision: string;
  station: string;
  since: string;
  limit: number;
  offset: number;
}

/** A change of an asset for which somebody should look at it. */
export interface AssetAlarm {
  id: string;
  subject: string;
  sentence: string;
  since: string;
  raised: string;
  acknowledged: string | null;
}

/** An asset with its newest recording and its alarms, the newest first. */
export interface AssetState {
  asset: string;
  station: string;
  recordings: number;
  newest: string;
  kind: string;
  confidence: number | null;
  severity: string | null;
  alarms: AssetAlarm[];
}

export interface AssetList {
  assets: AssetState[];
  promise: string;
}

/** An asset over time, the earliest recording first. */
export interface AssetHistory {
  observations: {
    time: string;
    kind: string;
    confidence: number | null;
    severity: string | null;
    quantities: Record<string, number | null>;
    unit: string;
    recorder: string;
  }[];
  quantities: {
    name: string;
    recorder: string;
    slope: { per_day: number | null; low: number | null; high: number | null } | null;
  }[];
  alarms: AssetAlarm[];
  notes: string[];
}

export interface Drift {
  recent: number;
  calibration: number;
  p_value: number | null;
  sentence: string;
  edges: number[];
  recent_counts: number[];
  calibration_counts: number[];
}
