// The verbs that change a domain the toolstack built: reboot, hot-plug. (Creating, destroying and sizing have files of their
// own.) Each gives the new record to remember.
import type { BuiltDomain } from './built-domain.ts';
import { destroyDomain } from './destroy-domain.ts';
import { type CreateOptions, createDomain } from './domain-builder.ts';
import type { GuestConfig } from './guest-config.ts';
import { libxlAt, libxlError } from './libxl-log.ts';
import { targetFudgeKb } from './memory-maths.ts';
import { memoryNodes } from './memory-ops.ts';
import { ERROR_INVAL } from './passthrough-policy.ts';
import { attachDevice, detachDevice } from './pci-assignment.ts';
import type { PciDevice } from './pci-spec.ts';
import { failure, type Operation, type OpResult, type ToolstackPorts } from './ports.ts';
import { readDynamicRange } from './squeezed-start.ts';

/** xl waits this long between the end of a domain and its new start. */
const REBOOT_WAIT_MS = 2_000;

/**
 * The configuration as libxl reads it back from a running domain: a guest that was ballooned down comes back with that target,
 * so below its maximum, so in PoD mode.
 */
export function configForReboot(ports: ToolstackPorts, domain: BuiltDomain): GuestConfig {
  const { build } = domain;
  const { config, maxMemkb, targetMemkb, videoMemkb } = build;
  const nodes = memoryNodes(ports, domain.domid);
  if (!nodes) return config;
  const fudge = targetFudgeKb({ type: config.type, maxMemkb, targetMemkb, videoMemkb });
  return {
    ...config,
    targetMemkb: nodes.targetKb + fudge,
    maxMemkb: nodes.staticMaxKb,
    pci: domain.devices.map(({ pci }) => pci),
  };
}

/** Read back, destroy, wait, create. If creation is refused the guest is gone, as with xl. */
export function* rebootDomain(
  ports: ToolstackPorts,
  domain: BuiltDomain,
  options: CreateOptions,
): Operation<OpResult<{ readonly domain: BuiltDomain }>> {
  const config = configForReboot(ports, domain);
  const { squeezed } = options;
  const { domid, build } = domain;
  const range = squeezed && readDynamicRange(ports, domid, { ...build, type: config.type });
  const destroyed = yield* destroyDomain(ports, domain.domid, domain.devices);
  if (!destroyed.ok) return destroyed;
  yield { do: 'sleep', ms: REBOOT_WAIT_MS };
  return yield* createDomain(ports, config, { ...options, squeezed: squeezed && { ...squeezed, range } });
}

/** `xl pci-attach`. The guest's own system places the windows, so none is mapped here. */
export function pciAttach(
  ports: ToolstackPorts,
  domain: BuiltDomain,
  pci: PciDevice,
): OpResult<{ readonly domain: BuiltDomain }> {
  const { domid, devices } = domain;
  const result = attachDevice(ports, domid, pci, new Map());
  if (!result.ok) return result;
  return { ok: true, log: result.log, domain: { ...domain, devices: [...devices, result.attached] } };
}

/** `xl pci-detach`. */
export function pciDetach(
  ports: ToolstackPorts,
  domain: BuiltDomain,
  sbdf: number,
): OpResult<{ readonly domain: BuiltDomain }> {
  const { domid, devices } = domain;
  const attached = devices.find((device) => device.sbdf === sbdf);
  if (!attached) {
    return failure(ERROR_INVAL, libxlError(libxlAt.notAttached, 'PCI device not attached to this domain', domid));
  }
  const result = detachDevice(ports, domid, attached);
  if (!result.ok) return result;
  return { ok: true, log: result.log, domain: { ...domain, devices: devices.filter((device) => device !== attached) } };
}
