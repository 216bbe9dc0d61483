/** Every sentence of the page, in one place. */

const few = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });

export const number = (value: number): string => few.format(value);
export const share = (value: number): string => percent.format(value);

const counted = (n: number, one: string, many: string): string => `${n} ${n === 1 ? one : many}`;

const AXES: Record<string, string> = {
  rgb: "colour",
  geometry: "shape",
  image: "pattern",
  series: "pulse series",
};

export const modality = (name: string): string => AXES[name] ?? name;

const joined = (names: string[]): string =>
  names.length < 2 ? (names[0] ?? "") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;

export const words = {
  title: "chiasm",
  skip: "Skip to the result",
  views: {
    label: "Views",
    inspect: "Inspect",
    history: "History",
    assets: "Assets",
    drift: "Drift and threshold",
    stations: "Stations",
  },
  model: {
    label: "Model",
    none: "No model is loaded. Start the service with a model folder: chiasm serve MODEL_FOLDER",
    loading: "Asking the service for its models …",
    unreachable:
      "The service does not answer. Is it still running? The page tries again automatically.",
    sees: (modalities: string[]) => `Uses ${joined(modalities.map(modality))}`,
    precision: (precision: string) => `computed in ${precision}`,
    any: (name: string) => `${name}: any product`,
    products: (products: string[]) =>
      `Judges ${joined(products)}. Each part’s product is told by its looks; where that is not clear, choose the product here.`,
  },
  key: {
    button: "API key",
    label: "API key",
    hint: "Stored in this tab only, and deleted when the tab is closed.",
    save: "Use this key",
    forget: "Delete it",
    wanted: "This service asks for an API key. Enter it under “API key” at the top.",
    shown: "a key is in use",
  },
  theme: { label: "Appearance", auto: "As the system", light: "Light", dark: "Dark" },
  drop: {
    heading: "Add files",
    detector: "Drop colour and 3D files here",
    classifier: "Drop pattern images and series here",
    or: "or",
    pick: "Choose files",
    pairs: {
      detector:
        "Files of one part are matched by name: 012.png with 012.tiff, or lid_rgb.png with lid_xyz.tiff. Several parts at once are fine. A camera’s JSON or YAML file may be among them.",
      classifier:
        "Files of one recording are matched by name: 012.png with 012.csv. One of the two is enough.",
    },
    release: "Let go to add the files",
  },
  camera: {
    legend: "Camera of the depth image",
    hint: "A depth image holds distances only. To compute points from it, enter the camera’s focal lengths and centre, in pixels, or choose its file.",
    wanted:
      "Waits for the camera: fill in fx, fy, cx and cy, choose its file, or give the pitch of a height map.",
  },
  sensor: {
    legend: "What 3D files do not say",
    hint: "In metres. Empty is what the file says; floats are then metres, and counts of depth millimetres.",
    cameras: {
      intrinsics: "Intrinsics",
      colour_intrinsics: "Intrinsics of a colour camera",
      extrinsic: "Extrinsic, depth to colour",
    },
    without: (name: string) => `Without ${name.toLowerCase()}`,
    fields: {
      unit: "One count or unit",
      pitch: "Between columns",
      pitch_y: "Between rows",
      offset: "Added to heights",
      missing: "Missing is marked by",
      bits: "Bits of the colour camera",
      direction: "Values are",
      intensity: "Intensities in 3D files",
    },
    up: "heights",
    down: "distances from the sensor",
    used: "are the grey image",
    unused: "are not used",
  },
  recorder: {
    legend: "Recorder",
    frequency: "Mains, Hz",
    perCycle: "Values per cycle",
    more: "What its files do not say",
    hint: "Empty is what the file says.",
    told: "told by the content",
    fields: {
      sample_rate: "Values a second",
      columns: "Columns: time,phase,amplitude",
      raw_type: "Type of bare numbers: int16",
      header_bytes: "Bytes before them",
      raw_channels: "Channels by turns in them",
      variable: "Array of a .mat or .npz file",
      time_unit: "Unit of times: s, ms, us, ns",
      phase_unit: "Unit of phases: degrees, radians, percent, cycles, 256",
      amplitude_grows: "Amplitudes of counts grow: up, down, right, left",
      layout: "A table holds",
    },
    asset: "Asset",
    assetHint: "Name of the apparatus, for its trend; may be empty.",
  },
  queue: {
    heading: "Parts",
    headingRecordings: "Recordings",
    empty: "Nothing here yet.",
    clear: "Clear list",
    summary: (done: number, alarms: number, all: number) =>
      `${done} of ${all} checked` + (alarms > 0 ? `, ${alarms} defective` : ""),
    summaryRecordings: (done: number, all: number) => `${done} of ${all} checked`,
    state: {
      waiting: "Incomplete",
      queued: "Waiting",
      checking: "Checking …",
      refused: "Not checked",
    },
    missing: (roles: string[]) => `Waits for ${joined(roles.map((r) => words.role[r] ?? r))}.`,
    checkAnyway: "Check without it",
    again: "Try again",
    remove: "Remove",
    unknown: (name: string, accepted: string) =>
      `${name} is not a file that this model reads. It reads ${accepted}.`,
    accepted: {
      detector:
        "PNG, JPEG, BMP or WebP for colour; TIFF, PLY, PCD, NPZ, OpenEXR, tables and NPY arrays for 3D, and PNG for depth",
      classifier: "images, tables, lists of pulses, NPY, NPZ, MAT, XML and bare numbers",
    },
    busy: "The service is busy; the files are sent again later.",
  },
  role: {
    rgb: "its colour picture",
    xyz: "its 3D file",
    image: "its pattern image",
    series: "its series",
  } as Record<string, string>,
  verdict: {
    empty: "No part has been checked yet",
    emptyHint: "Add the colour picture and the 3D file of a part. The verdict appears here.",
    emptyRecording: "No recording has been checked yet",
    emptyRecordingHint:
      "Add a pattern image, its pulse series, or both. The diagnosis appears here.",
    good: "Good",
    defective: "Defective",
    undecided: "Undecided",
    unknown: "Unknown",
    refused: "Not checked",
    waiting: "Incomplete",
    checking: "Checking …",
    queued: "Waiting",
    plain: (p: number | null, defective: boolean | null) => {
      if (p === null) return "This model has no calibration parts, so there is no p-value.";
      const often =
        p >= 0.01
          ? `about ${Math.round(p * 100)} in 100`
          : `about ${Math.max(1, Math.round(p * 1000))} in 1,000`;
      if (defective) return `Only ${often} good parts would look as unusual as this.`;
      if (p > 0.5)
        return "Looks like the good parts: more than half of them are as unusual as this.";
      if (p >= 0.1) return `Looks like the good parts: ${often} are as unusual as this.`;
      return `Still within what good parts show, but only ${often} are as unusual as this.`;
    },
    spoken: (source: string, word: string, sentence: string) => `${source}: ${word}. ${sentence}`,
    score: "Score",
    threshold: "Threshold",
    pValue: "p-value",
    time: "Computed in",
    product: "Product",
    ms: (value: number) => `${number(value)} ms`,
    facts: "In figures",
  },
  pictures: {
    heading: "Where",
    rgb: "Colour",
    depth: "Depth",
    cloud: "3D",
    show: "Show heat map",
    opacity: "Heat map opacity",
    gone: "The service does not keep this picture any more.",
    none: "This model does not use it.",
    ground: (ground: string, source: string) => `${ground} of ${source}`,
    withHeat: (ground: string, source: string) =>
      `${ground} of ${source}, with the heat map over it`,
    less: "usual",
    more: "very unusual",
  },
  cloud: {
    by: "Colour of the points",
    anomaly: "Anomaly",
    colour: "Colour of the part",
    label: (n: number) =>
      `Point cloud of ${n.toLocaleString("en")} points. Arrow keys turn it, plus and minus zoom, Home resets.`,
    keys: "Drag or use the arrow keys to turn; + and − zoom; Home resets.",
    loading: "Loading the points …",
    impossible: "This browser cannot draw 3D: WebGL is missing or switched off.",
  },
  scale: {
    heading: "Score against good parts",
    label: (score: number, threshold: number, n: number) =>
      `Score ${number(score)}; the threshold is ${number(threshold)}; ${counted(n, "good part was", "good parts were")} scored at calibration.`,
    bars: (n: number) => `${counted(n, "good part", "good parts")} at calibration`,
    threshold: "threshold",
    this: "this part",
    none: "This model has no calibration histogram.",
  },
  pulses: {
    heading: "Pulse series by phase",
    label: (cycles: number, highest: number) =>
      `Pulses of ${counted(cycles, "cycle", "cycles")} by phase; the highest is ${number(highest)}.`,
    caption: (cycles: number, lowest: string, highest: string) =>
      `${counted(cycles, "cycle", "cycles")} over each other; from ${lowest} below to ${highest} above.`,
  },
  diagnosis: {
    pattern: "Pattern",
    pulses: "Pulses by phase and charge",
    heading: "Possible classes",
    severity: "Severity",
    levelsNote: (levels: string) =>
      levels.startsWith("default")
        ? "By default levels, which are nobody’s limits."
        : `By the levels ‘${levels}’.`,
    sources: "Several sources",
    share: (kind: string, share: number) => `${kind}: ${Math.round(100 * share)} % of the charge`,
    combined: "together",
    opinion: (name: string) => `${modality(name)} alone`,
    uncertainty: "Uncertainty",
    conflict: "Conflict",
    uncertaintyWord: (u: number) =>
      u < 0.2
        ? "Low: the evidence is strong."
        : u < 0.5
          ? "Moderate: take a second look."
          : "High: the evidence is weak.",
    conflictWord: (c: number) =>
      c < 0.2
        ? "Low: both sensors agree."
        : c < 0.5
          ? "Moderate: the sensors partly disagree."
          : "High: the sensors say different things.",
    conflictNone: "One sensor alone cannot conflict.",
    unknownSentence: "The evidence is too weak for any of the model’s classes.",
    sentence: (kind: string, p: number) =>
      kind === "normal"
        ? `No fault is found, with a probability of ${share(p)}.`
        : `The most probable of the model’s classes, with a probability of ${share(p)}.`,
  },
  correction: {
    heading: "Is this right?",
    right: "Right",
    falseAlarm: "False alarm",
    missed: "Missed a defect",
    said: (says: string) => `Noted: ${says}.`,
    failed: "The correction was not saved:",
    for: (source: string) => `Correct the verdict on ${source}`,
  },
  history: {
    heading: "History",
    live: "Live",
    liveHint: "New verdicts appear automatically",
    filter: "Filters",
    model: "Model",
    all: "All",
    decision: "Decision",
    time: "Time",
    times: { hour: "Last hour", day: "Last day", week: "Last week", all: "All" },
    columns: {
      time: "Time",
      source: "File",
      model: "Model",
      decision: "Decision",
      score: "Score",
      p: "p-value",
      correction: "Is this right?",
      station: "Station",
    },
    version: (hash: string) => `version ${hash.slice(0, 8)}`,
    empty: "No verdict matches these filters.",
    emptyAtAll: "No verdict yet. All verdicts of the service are listed here.",
    newer: "Newer",
    older: "Older",
    range: (from: number, to: number, total: number | null) =>
      total === null ? `${from} to ${to}` : `${from} to ${to} of ${total}`,
    pages: "Pages",
    save: "Save as CSV",
    saving: "Saving …",
    error: "error",
    look: (source: string) => `Look at ${source}`,
    looked: "From the history",
  },
  notices: "What the operator should know",
  stations: {
    heading: "Stations",
    intro: "All services that write into the same log.",
    columns: {
      station: "Station",
      service: "Service",
      state: "State",
      waiting: "Verdicts on its disk",
      models: "Models",
    },
    own: "this page’s own",
    alive: "Reports",
    silent: "Silent",
    all: "All",
    model: (name: string, hash: string) => `${name}, version ${hash.slice(0, 8)}`,
    threshold: (threshold: string, calibration: string) =>
      `threshold ${threshold}, calibration ${calibration}`,
  },
  assets: {
    heading: "Assets",
    intro: "Recordings of an apparatus over time, with alarms on what changed.",
    none: "No recording names its asset yet. Fill in “Asset” before you add recordings, or send the field asset with a request.",
    noneHere: "No asset was last recorded at this station.",
    count: (open: number, total: number) =>
      open === 0
        ? `No open alarm at ${counted(total, "asset", "assets")}`
        : `Open alarms at ${open} of ${counted(total, "asset", "assets")}`,
    state: (open: boolean, alarms: number) =>
      open ? "Alarm" : alarms > 0 ? "Alarms acknowledged" : "No alarm",
    last: (
      kind: string,
      confidence: string,
      severity: string | null,
      date: string,
      recordings: number,
    ) =>
      `Last: ${kind}${confidence ? ` (${confidence})` : ""}${severity ? `, severity ${severity}` : ""}, ${date}. ${counted(recordings, "recording", "recordings")}.`,
    acknowledge: "Acknowledge",
    acknowledged: (date: string) => `Acknowledged ${date}`,
    severity: "severity",
    quantities: { charge_repeated: "charge", rate_per_s: "pulse rate" } as Record<string, string>,
    plot: (asset: string, recordings: number) =>
      `${asset}: class, severity, charge and pulse rate of ${counted(recordings, "recording", "recordings")} over time`,
    slope: (name: string, middle: string, low: string, high: string, recorder: string) =>
      `Slope of the ${name === "rate_per_s" ? "pulse rate" : "charge"}${recorder ? ` (${recorder})` : ""}: ${middle} in 30 days, interval ${low} to ${high}.`,
  },
  drift: {
    heading: "Drift",
    intro: "Do recent parts still have scores like those of the calibration?",
    recent: (n: number) => `${counted(n, "recent score", "recent scores")}`,
    calibration: (n: number) => `${counted(n, "score", "scores")} at calibration`,
    score: "score",
    label: "Recent scores beside calibration scores",
    p: (p: number) => `p-value of the test ${number(p)}`,
    refresh: "Refresh",
    chart: "Share of parts by score",
    notForRecordings: "Drift is measured on scores of parts; this model diagnoses recordings.",
  },
  threshold: {
    heading: "Threshold",
    intro:
      "Which share of good parts may alarm falsely? A lower share raises the threshold, and more defects are missed.",
    rate: "False alarms at most, %",
    confidence: "Kept",
    average: "on average",
    sure: (confidence: number) => `with ${share(confidence)} confidence`,
    preview: "Show the effect",
    use: "Use this threshold",
    before: "Now",
    after: "Then",
    none: "none",
    alarms: (alarms: number, recent: number) =>
      `${alarms} of the last ${counted(recent, "part", "parts")} ${alarms === 1 ? "is an alarm" : "are alarms"}.`,
    locked:
      "Only an administrator’s key changes it: start the service with --admin-key-file, and enter one of its keys under “API key” at the top.",
    done: (threshold: number | null) =>
      `The threshold is ${threshold === null ? "none" : number(threshold)} now. The former one is kept beside the model.`,
    several: "Each product has its own threshold and scores; choose a product at the top.",
  },
  outlets: {
    heading: "Systems that get the verdicts",
    intro: "Every verdict waits on this service’s disk until its receiver has it.",
    none: "Verdicts are sent to no other system. Name MQTT, webhooks, Modbus or OPC UA in a file: chiasm serve … --outlets outlets.yaml",
    kinds: { mqtt: "MQTT", webhook: "Webhook", modbus: "Modbus/TCP", opcua: "OPC UA" } as Record<
      string,
      string
    >,
    states: {
      ready: "Nothing to send yet",
      sent: "All sent",
      waiting: "Verdicts wait",
      failed: "Failed",
    },
    columns: {
      waiting: "Waiting",
      sent: "Sent since the start",
      aside: "Set aside",
      last: "Last sent",
    },
    away: "The receiver is away, and is tried again:",
    refused: "The last verdict was set aside:",
  },
  failure: {
    offline: "The service did not answer. Check that it is running, then try again.",
    strange: (status: number) => `The service answered with status ${status} and no explanation.`,
  },
  loading: "Loading …",
};
