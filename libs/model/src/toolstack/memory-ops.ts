// `xl mem-set` and `xl mem-max`: libxl's arithmetic, order and refusals. The order matters: the hypervisor's limit, the PoD
// target, xenstore; a refused PoD target leaves the limit changed. The guest itself is told by xenstore alone.
import { errnoName } from '../hypercall/errno.ts';
import { LIBXL_MAXMEM_CONSTANT } from './memory-maths.ts';
import { ERROR_FAIL, ERROR_INVAL } from './passthrough-policy.ts';
import { failure, type OpResult, type ToolstackPorts } from './ports.ts';

const DOM0 = 0;
const DOM0_MIN_KB = 128 * 1024;
const KB_PER_PAGE = 4;
export const TARGET = 'memory/target';
export const STATIC_MAX = 'memory/static-max';
export const VIDEORAM = 'memory/videoram';

export interface MemoryNodes {
  readonly targetKb: number;
  readonly staticMaxKb: number;
  readonly videoramKb: number;
}

export function readKb(ports: Pick<ToolstackPorts, 'xenstore'>, domid: number, path: string): number | null {
  const text = ports.xenstore.read(domid, path);
  const value = text === null || text === '' ? Number.NaN : Number(text);
  return Number.isFinite(value) ? value : null;
}

/** dom0 has no nodes until somebody asks: its present size (as libxl__fill_dom0_memory_info). */
function fillDom0(ports: ToolstackPorts): void {
  if (readKb(ports, DOM0, TARGET) !== null) return;
  const { info } = ports.port.call({ op: 'getdomaininfo', domid: DOM0 });
  if (!info) return;
  const kb = String(info.totPages * KB_PER_PAGE);
  ports.xenstore.write(DOM0, STATIC_MAX, kb);
  ports.xenstore.write(DOM0, TARGET, kb);
}

/** null: the domain has no such nodes. */
export function memoryNodes(ports: ToolstackPorts, domid: number): MemoryNodes | null {
  if (domid === DOM0) fillDom0(ports);
  const targetKb = readKb(ports, domid, TARGET);
  const staticMaxKb = readKb(ports, domid, STATIC_MAX);
  if (targetKb === null || staticMaxKb === null) return null;
  return { targetKb, staticMaxKb, videoramKb: readKb(ports, domid, VIDEORAM) ?? 0 };
}

export interface TargetRequest {
  readonly kb: number;
  /** Added to the present target instead of replacing it. */
  readonly relative: boolean;
  /** Also moves the hypervisor's limit. */
  readonly enforce: boolean;
}

/** As libxl_set_memory_target. */
export function setMemoryTarget(ports: ToolstackPorts, domid: number, r: TargetRequest): OpResult {
  const { port, xenstore } = ports;
  const nodes = memoryNodes(ports, domid);
  if (!nodes) return failure(ERROR_FAIL, `cannot get target memory info from /local/domain/${domid}/memory/target`);
  const { targetKb, staticMaxKb, videoramKb } = nodes;
  const target = r.relative ? Math.max(0, targetKb + r.kb) : r.kb - videoramKb;
  if (target > staticMaxKb) {
    return failure(ERROR_INVAL, 'memory_dynamic_max must be less than or equal to memory_static_max');
  }
  if (domid === DOM0 && target < DOM0_MIN_KB) {
    return failure(ERROR_INVAL, `new target ${target} for dom0 is below the minimum threshold`);
  }
  if (r.enforce) {
    const maxKb = target + videoramKb + LIBXL_MAXMEM_CONSTANT;
    const limit = port.call({ op: 'max_mem', domid, maxKb });
    if (limit.rc < 0) return failure(ERROR_FAIL, `xc_domain_setmaxmem memkb=${maxKb} failed rc=${limit.rc}`);
  }
  if (domid !== DOM0) {
    const targetPages = Math.floor((target + LIBXL_MAXMEM_CONSTANT) / KB_PER_PAGE);
    const { rc } = port.call({ op: 'set_pod_target', domid, targetPages });
    if (rc < 0) {
      return failure(ERROR_FAIL, `xc_domain_set_pod_target memkb=${target} failed rc=${rc}`, [errnoName(rc)]);
    }
  }
  xenstore.write(domid, TARGET, String(target));
  return { ok: true, log: [] };
}

/** `xl mem-set D S`: absolute, enforced. `text` is the size as it was typed. */
export function memSet(ports: ToolstackPorts, domid: number, kb: number, text: string): OpResult {
  const result = setMemoryTarget(ports, domid, { kb, relative: false, enforce: true });
  return result.ok
    ? result
    : failure(result.rc, `cannot set domid ${domid} dynamic max memory to : ${text}`, result.log);
}

/** `xl mem-max D S`, as libxl_domain_setmaxmem. The guest is not told. */
export function memMax(ports: ToolstackPorts, domid: number, kb: number, text: string): OpResult {
  const last = `cannot set domid ${domid} static max memory to : ${text}`;
  const nodes = memoryNodes(ports, domid);
  if (!nodes) return failure(ERROR_FAIL, last, [`cannot get memory info from /local/domain/${domid}/memory/target`]);
  if (kb < nodes.targetKb) {
    return failure(ERROR_FAIL, last, ['memory_static_max must be greater than or or equal to memory_dynamic_max']);
  }
  const { rc } = ports.port.call({ op: 'max_mem', domid, maxKb: kb + LIBXL_MAXMEM_CONSTANT });
  if (rc < 0)
    return failure(ERROR_FAIL, last, [`xc_domain_setmaxmem domid=${domid} memkb=${kb} failed ${errnoName(rc)}`]);
  ports.xenstore.write(domid, STATIC_MAX, String(kb));
  return { ok: true, log: [] };
}
