// `xl create` from a configuration to a running domain: memory is made free (by squeezed, or by dom0), the domain is made and
// assembled, and whatever fails, the half-built domain is destroyed and what libxl says of it returned.
import { errno } from '../hypercall/errno.ts';
import { applyLibxlDefaults, type BuildInfo, type BuildInfoResult, DEFAULT_MEMKB } from './build-info.ts';
import type { BuiltDomain } from './built-domain.ts';
import { destroyDomain } from './destroy-domain.ts';
import { type AssemblyOptions, BuildFailure, DomainAssembly, type NewDomain } from './domain-assembly.ts';
import { freeMemory } from './free-memory.ts';
import type { GuestConfig } from './guest-config.ts';
import { libxlAt, libxlError, libxlFailed, xlSays } from './libxl-log.ts';
import { ERROR_FAIL, type LibxlRefusal } from './passthrough-policy.ts';
import { type Failure, failure, type Operation, type OpResult, type ToolstackPorts } from './ports.ts';
import { deleteReservation, transferReservation } from './squeezed-reservations.ts';
import { dynamicRange, reserveForDomain, type SqueezedStart, writeDynamicRange } from './squeezed-start.ts';

export interface CreateOptions extends AssemblyOptions {
  /** libxl's own refusal of PoD together with passthrough; off: as toolstacks before it. */
  readonly libxlPodCheck: 'on' | 'off';
  /** xl.conf's claim_mode. */
  readonly claimMode: boolean;
  /** xl.conf's autoballoon: dom0 gives memory up when the host has too little. */
  readonly autoballoon: boolean;
  /** squeezed makes room for the domain, and decides its size; null: a host without it, as xl's are. */
  readonly squeezed: SqueezedStart | null;
}

export const defaultCreateOptions: CreateOptions = {
  libxlPodCheck: 'on',
  populateFirst: false,
  claimMode: true,
  autoballoon: false,
  squeezed: null,
  imagePages: 256,
  acpiRegion: 'nvs',
};

type Created = OpResult<{ readonly domain: BuiltDomain }>;

export function* createDomain(
  ports: ToolstackPorts,
  config: GuestConfig,
  options: CreateOptions = defaultCreateOptions,
): Operation<Created> {
  const { squeezed } = options;
  if (!squeezed) return yield* createSized(ports, config, options, null);
  // The largest it may become costs the most.
  const range = squeezed.range ?? dynamicRange(config, DEFAULT_MEMKB);
  const largest = libxlDefaults(ports, { ...config, targetMemkb: range.maxKb }, options);
  if (!largest.ok) return refusedBy(largest);
  const overheadKb = largest.build.needMemkb - range.maxKb;
  const reserved = yield* reserveForDomain(ports, range, overheadKb, squeezed);
  if (!reserved.ok) return withLastWord(reserved, 'failed to free memory for the domain');
  try {
    const created = yield* createSized(ports, { ...config, targetMemkb: reserved.targetMemkb }, options, squeezed);
    if (created.ok)
      writeDynamicRange(ports, created.domain.domid, range, { ...created.domain.build, type: config.type });
    return created;
  } finally {
    deleteReservation(ports, squeezed.reservation);
  }
}

const withLastWord = (result: Failure, text: string): Failure => ({ ...result, log: [...result.log, xlSays(text)] });

function libxlDefaults(ports: ToolstackPorts, config: GuestConfig, options: CreateOptions): BuildInfoResult {
  const podWithPassthrough = options.libxlPodCheck === 'on' ? 'refuse' : 'allow';
  return applyLibxlDefaults(config, ports.caps, { claimMode: options.claimMode, podWithPassthrough });
}

function* createSized(
  ports: ToolstackPorts,
  config: GuestConfig,
  options: CreateOptions,
  squeezed: SqueezedStart | null,
): Operation<Created> {
  const defaults = libxlDefaults(ports, config, options);
  if (!defaults.ok) return refusedBy(defaults);
  const { build } = defaults;
  if (options.autoballoon) {
    const freed = yield* freeMemory(ports, build.needMemkb);
    if (!freed.ok) return freed;
  }
  const created = makeDomain(ports, build);
  if (typeof created === 'number') {
    const reason = libxlFailed(libxlAt.createFailed, 'domain creation fail', created);
    return failure(ERROR_FAIL, reason, libxlError(libxlAt.cannotMake, `cannot make domain: ${ERROR_FAIL}`));
  }
  if (squeezed) transferReservation(ports, squeezed.reservation, created.domid);
  const builder = new DomainAssembly(ports, build, options, created);
  try {
    const domain = yield* builder.build();
    return { ok: true, log: builder.log, domain };
  } catch (error) {
    if (!(error instanceof BuildFailure)) throw error;
    yield* destroyDomain(ports, created.domid, builder.attached);
    return { ...error.result, log: [...builder.log, ...error.result.log] };
  }
}

function refusedBy({ rc, at, message }: LibxlRefusal): Failure {
  return failure(rc, at ? libxlError(at, message) : xlSays(message));
}

function makeDomain({ port }: ToolstackPorts, build: BuildInfo): NewDomain | number {
  const { rc, domid, incarnation } = port.call({
    op: 'createdomain',
    domid: 0,
    name: build.config.name,
    hvm: build.config.type !== 'pv',
    hap: build.hap,
    iommu: build.passthrough !== 'disabled',
    noSharept: build.passthrough === 'sync_pt',
    vcpus: build.config.maxVcpus,
    deviceModel: build.config.type === 'hvm',
  });
  if (rc < 0) return rc;
  return domid === undefined || incarnation === undefined ? -errno.EINVAL : { domid, incarnation };
}
