// The toolstack's ports over a real host in one thread: xenstore as a plain map, pauses answered by the caller.
import type { HostCaps } from '#model/toolstack/build-info';
import type { BuiltDomain } from '#model/toolstack/built-domain';
import { type GuestConfig, parseGuestConfig } from '#model/toolstack/guest-config';
import type { Operation, Pause, PauseResult, ToolstackPorts, Xenstore } from '#model/toolstack/ports';
import type { RealHost } from './real-host.ts';

export class MapXenstore implements Xenstore {
  readonly nodes = new Map<string, string>();
  read(domid: number, path: string): string | null {
    return this.nodes.get(`${domid}/${path}`) ?? null;
  }
  write(domid: number, path: string, value: string): void {
    this.nodes.set(`${domid}/${path}`, value);
  }
  remove(domid: number, path: string): void {
    this.nodes.delete(`${domid}/${path}`);
  }
  removeDomain(domid: number): void {
    for (const key of [...this.nodes.keys()]) if (key.startsWith(`${domid}/`)) this.nodes.delete(key);
  }
}

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
  return { port, xenstore: new MapXenstore(), devices: host.h.config.devices, caps, physBits: 39 };
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

export function built(result: { ok: boolean; domain?: BuiltDomain; log?: readonly string[] }): BuiltDomain {
  if (!result.ok || !result.domain) throw new Error(`not built: ${result.log?.join('; ')}`);
  return result.domain;
}
