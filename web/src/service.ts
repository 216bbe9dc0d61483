/** The service's interface as functions; failures are sentences that the page shows as they are. */

import { apiKey } from "./key.svelte";
import type {
  Answer,
  AssetHistory,
  AssetList,
  Drift,
  LogFilter,
  Logged,
  LogPage,
  Model,
  Says,
  ServiceState,
  Threshold,
} from "./records";
import { words } from "./words";

export class ServiceError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly retryAfter = 0,
  ) {
    super(message);
  }
}

/** Addresses are relative to the page, so that a proxy may put the service below a path of its own. */
async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (apiKey.value) headers.set("X-API-Key", apiKey.value);
  let response: Response;
  try {
    response = await fetch(path.replace(/^\//, ""), { ...init, headers });
  } catch {
    throw new ServiceError(words.failure.offline, 0);
  }
  if (response.ok) {
    apiKey.wanted = false;
    return response;
  }
  const body: unknown = await response.json().catch(() => null);
  // A key that may read and not change is a key all the same.
  const limited = (body as { error?: { code?: unknown } } | null)?.error?.code === "admin_only";
  if ((response.status === 401 || response.status === 403) && !limited) apiKey.wanted = true;
  throw new ServiceError(
    sentence(body) ?? words.failure.strange(response.status),
    response.status,
    Number(response.headers.get("Retry-After")) || 1,
  );
}

function sentence(body: unknown): string | null {
  const message = (body as { error?: { message?: unknown } } | null)?.error?.message;
  return typeof message === "string" ? message : null;
}

const path = (name: string): string => `v1/models/${encodeURIComponent(name)}`;

export async function models(): Promise<Model[]> {
  const body = await (await ask("v1/models")).json();
  return Array.isArray(body) ? body : body.models;
}

export async function predict(name: string, fields: FormData): Promise<Answer> {
  const answer = await (
    await ask(`${path(name)}/predict`, { method: "POST", body: fields })
  ).json();
  return {
    links: {},
    notes: [],
    wing: "probabilities" in answer ? "classifier" : "detector",
    ...answer,
  };
}

/** Address of all verdicts that match, as a CSV table. */
export function tableAddress(filter: Omit<LogFilter, "limit" | "offset">): string {
  const given = Object.entries(filter).filter(([, value]) => value);
  return `v1/verdicts.csv?${new URLSearchParams(Object.fromEntries(given) as Record<string, string>)}`;
}

/** The same table with the key in the request, which a link cannot have. */
export async function table(filter: Omit<LogFilter, "limit" | "offset">): Promise<Blob> {
  return await (await ask(tableAddress(filter))).blob();
}

/** A picture as an address for `<img>`; whoever asks revokes it. */
export async function picture(link: string): Promise<string> {
  return URL.createObjectURL(await (await ask(link)).blob());
}

/** Rows of x, y, z, score, r, g, b. */
export async function points(link: string): Promise<Float32Array> {
  return new Float32Array(await (await ask(link)).arrayBuffer());
}

export async function verdicts(filter: LogFilter): Promise<LogPage> {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(filter)) if (value !== "") query.set(name, `${value}`);
  const body = await (await ask(`v1/verdicts?${query}`)).json();
  const rows: (Omit<Logged, "correction"> & { correction: Says | { says: Says } | null })[] =
    Array.isArray(body) ? body : body.verdicts;
  return {
    rows: rows.map((row) => ({
      ...row,
      correction:
        typeof row.correction === "object" ? (row.correction?.says ?? null) : row.correction,
    })),
    total: body.total ?? null,
  };
}

export async function correct(id: string, says: Says): Promise<void> {
  await ask(`v1/verdicts/${encodeURIComponent(id)}/correction`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ says, by: "page" }),
  });
}

/** The model's threshold beside that of another false-alarm rate; null asks for its own alone. */
export async function threshold(
  name: string,
  rate: number | null,
  confidence: string,
): Promise<Threshold> {
  const query = new URLSearchParams();
  if (rate !== null) query.set("false_alarm_rate", `${rate}`);
  if (rate !== null && confidence) query.set("confidence", confidence);
  return (await ask(`${path(name)}/threshold?${query}`)).json();
}

export async function changeThreshold(
  name: string,
  rate: number,
  confidence: string,
): Promise<Model> {
  const answer = await ask(`${path(name)}/threshold`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      false_alarm_rate: rate,
      confidence: confidence ? Number(confidence) : null,
    }),
  });
  return answer.json();
}

/** Of all stations, or of one. */
export async function drift(name: string, station: string): Promise<Drift> {
  const query = station === "" ? "" : `?${new URLSearchParams({ station })}`;
  return (await ask(`${path(name)}/drift${query}`)).json();
}

/** Of all stations, or of one. */
export async function assets(station: string): Promise<AssetList> {
  const query = station === "" ? "" : `?${new URLSearchParams({ station })}`;
  return (await ask(`v1/assets${query}`)).json();
}

export async function assetHistory(asset: string): Promise<AssetHistory> {
  return (await ask(`v1/assets/trend?${new URLSearchParams({ asset })}`)).json();
}

export async function acknowledge(alarm: string): Promise<void> {
  await ask(`v1/alarms/${encodeURIComponent(alarm)}/acknowledgement`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ by: "page" }),
  });
}

export async function state(): Promise<ServiceState> {
  return (await ask("v1/state")).json();
}
