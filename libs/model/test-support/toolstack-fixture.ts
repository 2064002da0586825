// The toolstack's ports over a real host in one thread: xenstore as a plain map, pauses answered by the caller.
import type { HostCaps } from '#model/toolstack/build-info';
import type { BuiltDomain } from '#model/toolstack/built-domain';
import { type GuestConfig, parseGuestConfig } from '#model/toolstack/guest-config';
import type { LogLine } from '#model/toolstack/libxl-log';
import type { Operation, Pause, PauseResult, ToolstackPorts } from '#model/toolstack/ports';
import { MapXenstore } from '#model/toolstack/xenstore-map';
import type { RealHost } from './real-host.ts';

export interface TestPorts extends ToolstackPorts {
  readonly xenstore: MapXenstore;
}

export function toolstackOn(host: RealHost): TestPorts {
  const port = host.port(0);
  const info = port.call({ op: 'physinfo' }).info;
  if (!info) throw new Error('no physinfo');
  const caps: HostCaps = {
    hap: info.hap,
    shadow: false,
    hvmDirectio: info.iommu,
    iommuHapPtShare: info.hapPtShare,
    nodes: 1,
    onlineCpus: info.pcpus,
  };
  const { devices, memoryMap } = host.h.config;
  return { port, xenstore: new MapXenstore(), devices, caps, physBits: 39, memoryMap };
}

export const fine: PauseResult = { ok: true };

/** Runs an operation to its end; `onPause` does what the process would do. */
export function finish<R>(operation: Operation<R>, onPause: (pause: Pause) => PauseResult = () => fine): R {
  let step = operation.next();
  while (!step.done) step = operation.next(onPause(step.value));
  return step.value;
}

export function config(text: string): GuestConfig {
  const result = parseGuestConfig(text, 'spec.cfg');
  if (!result.ok) throw new Error(result.errors.map(({ message }) => message).join('\n'));
  return result.config;
}

export function built(result: { ok: boolean; domain?: BuiltDomain; log?: readonly LogLine[] }): BuiltDomain {
  if (!result.ok || !result.domain) throw new Error(`not built: ${result.log?.map(({ text }) => text).join('; ')}`);
  return result.domain;
}
