// `xl mem-set` and `xl mem-max`: libxl's arithmetic, order and refusals. The order matters: the hypervisor's limit, the PoD
// target, xenstore; a refused PoD target leaves the limit changed. The guest itself is told by xenstore alone.
import { errno } from '../hypercall/errno.ts';
import { type LibxlPlace, type LogLine, libxlAt, libxlError, libxlFailed, xlSays } from './libxl-log.ts';
import { LIBXL_MAXMEM_CONSTANT } from './memory-maths.ts';
import { ERROR_FAIL, ERROR_INVAL } from './passthrough-policy.ts';
import { type Failure, failure, type OpResult, type ToolstackPorts } from './ports.ts';

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

/** The domain has no such node. */
const missingNode = (at: LibxlPlace, what: string, domid: number, path: string): LogLine =>
  libxlFailed(at, `Cannot get ${what} from /local/domain/${domid}/${path}`, -errno.ENOENT, domid);

/** As libxl_set_memory_target. */
export function setMemoryTarget(ports: ToolstackPorts, domid: number, r: TargetRequest): OpResult {
  const { port, xenstore } = ports;
  const nodes = memoryNodes(ports, domid);
  if (!nodes) return failure(ERROR_FAIL, missingNode(libxlAt.targetNoTarget, 'target memory info', domid, TARGET));
  const { targetKb, staticMaxKb, videoramKb } = nodes;
  const target = r.relative ? Math.max(0, targetKb + r.kb) : r.kb - videoramKb;
  if (target > staticMaxKb) {
    const text = 'memory_dynamic_max must be less than or equal to memory_static_max';
    return failure(ERROR_INVAL, libxlError(libxlAt.dynamicAboveStatic, text, domid));
  }
  if (domid === DOM0 && target < DOM0_MIN_KB) {
    const text = `New target ${target} for dom0 is below the minimum threshold`;
    return failure(ERROR_INVAL, libxlError(libxlAt.dom0TooSmall, text, domid));
  }
  if (r.enforce) {
    const maxKb = target + videoramKb + LIBXL_MAXMEM_CONSTANT;
    const limit = port.call({ op: 'max_mem', domid, maxKb });
    if (limit.rc < 0) {
      const text = `xc_domain_setmaxmem memkb=${maxKb} failed rc=-1`;
      return failure(ERROR_FAIL, libxlFailed(libxlAt.targetMaxmemFailed, text, limit.rc, domid));
    }
  }
  if (domid !== DOM0) {
    const targetPages = Math.floor((target + LIBXL_MAXMEM_CONSTANT) / KB_PER_PAGE);
    const { rc } = port.call({ op: 'set_pod_target', domid, targetPages });
    if (rc < 0) {
      // libxl's word is memkb, its number is pages.
      const text = `xc_domain_set_pod_target memkb=${targetPages} failed rc=-1`;
      return failure(ERROR_FAIL, libxlFailed(libxlAt.podTargetFailed, text, rc, domid));
    }
  }
  xenstore.write(domid, TARGET, String(target));
  return { ok: true, log: [] };
}

/** xl's last word after libxl's; `text` is the size as it was typed. */
const cannotSet = (result: Failure, domid: number, which: 'dynamic' | 'static', text: string): Failure => ({
  ...result,
  log: [...result.log, xlSays(`cannot set domid ${domid} ${which} max memory to : ${text}`)],
});

/** `xl mem-set D S`: absolute, enforced. `text` is the size as it was typed. */
export function memSet(ports: ToolstackPorts, domid: number, kb: number, text: string): OpResult {
  const result = setMemoryTarget(ports, domid, { kb, relative: false, enforce: true });
  return result.ok ? result : cannotSet(result, domid, 'dynamic', text);
}

/** As libxl_domain_setmaxmem. The guest is not told. */
function setMaxMemory(ports: ToolstackPorts, domid: number, kb: number): OpResult {
  const nodes = memoryNodes(ports, domid);
  if (!nodes) return failure(ERROR_FAIL, missingNode(libxlAt.maxmemNoTarget, 'memory info', domid, TARGET));
  if (kb < nodes.targetKb) {
    const text = 'memory_static_max must be greater than or or equal to memory_dynamic_max';
    // libxl adds the words of whatever errno was left; after a good read there is none.
    return failure(ERROR_FAIL, libxlFailed(libxlAt.staticBelowDynamic, text, 0, domid));
  }
  const maxKb = kb + LIBXL_MAXMEM_CONSTANT;
  const { rc } = ports.port.call({ op: 'max_mem', domid, maxKb });
  if (rc < 0) {
    const text = `xc_domain_setmaxmem domid=${domid} memkb=${maxKb} failed rc=-1`;
    return failure(ERROR_FAIL, libxlFailed(libxlAt.maxmemFailed, text, rc, domid));
  }
  ports.xenstore.write(domid, STATIC_MAX, String(kb));
  return { ok: true, log: [] };
}

/** `xl mem-max D S`. */
export function memMax(ports: ToolstackPorts, domid: number, kb: number, text: string): OpResult {
  const result = setMaxMemory(ports, domid, kb);
  return result.ok ? result : cannotSet(result, domid, 'static', text);
}
