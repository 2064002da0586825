// What the process is told: environment variables, and the file they name. Owns their schemas and the sentences for an operator
// who got one wrong; knows nothing of where a host description comes from.
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import type { HostConfig } from '#model/host-config';
import type { FaultPlan } from '#model/shared-memory/fault-plan';
import type { RedisEndpoint } from '#wire/connection';
import { faultPlanSchema } from '#wire/fault-plan';
import { isHostId } from '#wire/names';

/** Nest token of the configuration. */
export const HYPERVISOR_CONFIG = Symbol('HypervisorConfig');

/** Exit status for a wrong variable or file, as `hostloom` uses it. */
export const EXIT_USAGE = 64;

/** An operator's mistake: printed without a stack. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

const count = z.int().min(0);
const positive = z.int().min(1);
const frameRange = z.object({ start: count, end: count });

const unit = z.object({
  id: count,
  superpage2m: z.boolean(),
  superpage1g: z.boolean(),
  snoopControl: z.boolean(),
  cachingMode: z.boolean(),
  pageSelectiveInvalidation: z.boolean(),
  maxAddressMask: count,
  levels: z.literal([3, 4]),
  domainIds: positive.optional(),
  ats: z.boolean().optional(),
  queuedInvalidation: z.boolean().optional(),
  writeBufferFlush: z.boolean().optional(),
});

const bar = z.object({
  index: z.union([count, z.literal('rom')]),
  size: positive,
  kind: z.enum(['io', 'mem32', 'mem32p', 'mem64', 'mem64p', 'rom']),
  hostAddr: count,
});

const device = z.object({
  sbdf: count,
  name: z.string(),
  vendor: count,
  device: count,
  pciClass: count,
  unit: z.int(),
  upstreamBridge: count.nullable(),
  bars: z.array(bar),
  kind: z.enum(['pcie', 'pci', 'host-bridge', 'pcie-bridge', 'pcie-to-pci-bridge', 'pci-bridge']).optional(),
  secondaryBus: count.optional(),
  phantomStride: z.literal([1, 2, 4]).optional(),
  ats: z.boolean().optional(),
  physicalFunction: count.optional(),
  hotplug: z.boolean().optional(),
});

const policies = z.object({
  shatter: z.enum(['atomic', 'naive', 'break-before-make']),
  podWithPassthrough: z.enum(['refuse', 'allow', 'populate-first']),
  iommuTables: z.enum(['auto', 'separate', 'shared']),
  iommuSuperpages: z.enum(['on', 'off']),
  iotlbFlush: z.enum(['sync', 'deferred', 'lost']),
  cpuFlush: z.enum(['deferred-to-unlock', 'lost']),
  balloonOrder: z.enum(['4k', '2m']),
  foreignMapPlace: z.enum(['ballooned-hole', 'top-of-ram']),
  ats: z.enum(['off', 'on']),
  specialEntries: z.enum(['protected', 'replaceable']),
  rmrrIdentity: z.enum(['p2m', 'iommu-only']),
});

const hostConfig = z.looseObject({
  name: z.string(),
  pcpus: positive.max(64),
  nrCpus: positive.optional(),
  dmaThreads: count.max(16),
  maxDomains: positive.max(1024),
  frames: positive,
  heapRanges: z.array(frameRange).min(1),
  memoryMap: z.array(z.object({ addr: count, size: positive, type: z.literal([1, 2, 3, 4, 5]) })),
  hap: z.boolean(),
  ept: z.object({ superpage2m: z.boolean(), superpage1g: z.boolean() }),
  iommuEnabled: z.boolean(),
  units: z.array(unit),
  quarantine: z.enum(['basic', 'none', 'scratch-page']),
  devices: z.array(device),
  rmrrs: z.array(z.object({ startPfn: count, endPfn: count, devices: z.array(count) })),
  rmrrOption: z.string().optional(),
  mmioRoRanges: z.array(frameRange).optional(),
  busFrames: positive.optional(),
  mediatedGpus: z
    .array(z.object({ sbdf: count, gmPages: positive, aperturePages: positive, apertureBase: count, tables: positive }))
    .optional(),
  tablePages: positive,
  policies: z.looseObject(policies.shape),
});

const runFile = z.object({
  config: hostConfig,
  faultPlan: faultPlanSchema.default([]),
  dom0: z.object({ memoryMb: positive, vcpus: positive.max(64) }),
  record: z.boolean().default(false),
});

const environment = z.object({
  HOSTLOOM_HOST_ID: z.string().refine(isHostId, "letters, digits, '.', '_' or '-', at most 63"),
  /** A socket's path or a URL; a password beside it is not seen by `ps`. */
  HOSTLOOM_REDIS: z.string().min(1),
  HOSTLOOM_REDIS_USERNAME: z.string().optional(),
  HOSTLOOM_REDIS_PASSWORD: z.string().optional(),
  HOSTLOOM_CONFIG: z.string().min(1),
  HOSTLOOM_RUN_DIR: z.string().min(1).optional(),
});

export interface Dom0Config {
  readonly memoryMb: number;
  readonly vcpus: number;
}

export interface HypervisorConfig {
  readonly hostId: string;
  readonly redis: RedisEndpoint;
  /** Where xl-dmesg.txt and history.ndjson go; null: nowhere. */
  readonly runDir: string | null;
  readonly host: HostConfig;
  readonly faultPlan: FaultPlan;
  readonly dom0: Dom0Config;
  readonly record: boolean;
}

const issues = (error: z.ZodError): string =>
  error.issues.map((issue) => `${issue.path.join('.') || 'file'}: ${issue.message}`).join('; ');

/** A path is a unix socket, everything else a URL. */
export function endpointOf(where: string, username?: string, password?: string): RedisEndpoint {
  const credentials = { ...(username ? { username } : {}), ...(password ? { password } : {}) };
  return /^[a-z]+:/.test(where) ? { url: where, ...credentials } : { path: where, ...credentials };
}

function readRunFile(path: string): z.infer<typeof runFile> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new ConfigError(`HOSTLOOM_CONFIG ${path}: ${(error as Error).message}`); // fs throws Errors only
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new ConfigError(`${path} is not JSON: ${(error as Error).message}`); // JSON.parse throws SyntaxError
  }
  const parsed = runFile.safeParse(json);
  if (!parsed.success) throw new ConfigError(`${path}: ${issues(parsed.error)}`);
  return parsed.data;
}

/** Throws ConfigError with what is wrong and where. */
export function readConfig(env: NodeJS.ProcessEnv): HypervisorConfig {
  const parsed = environment.safeParse(env);
  if (!parsed.success) throw new ConfigError(issues(parsed.error));
  const told = parsed.data;
  const { config, faultPlan, dom0, record } = readRunFile(told.HOSTLOOM_CONFIG);
  return {
    hostId: told.HOSTLOOM_HOST_ID,
    redis: endpointOf(told.HOSTLOOM_REDIS, told.HOSTLOOM_REDIS_USERNAME, told.HOSTLOOM_REDIS_PASSWORD),
    runDir: told.HOSTLOOM_RUN_DIR ?? null,
    // The schema is loose so that a knob of a later version passes; every field of this one was checked. Numbers get brands.
    host: config as unknown as HostConfig,
    faultPlan,
    dom0,
    record,
  };
}
