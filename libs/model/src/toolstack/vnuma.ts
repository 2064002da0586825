// Virtual NUMA: the vnuma= list of xl.cfg, libxl's checks of it, and the byte ranges its nodes take of a guest's RAM. As
// xl's parse_vnuma_config, libxl__vnuma_config_check and libxl__vnuma_build_vmemrange_hvm.

import type { HvmLayout } from './build-layout.ts';
import { FOUR_GIB, KIB } from './e820.ts';
import { type LibxlPlace, libxlAt } from './libxl-log.ts';
import { decimalLength } from './long.ts';
import type { VmemRange } from './meminit-hvm.ts';
import type { XlcfgValue } from './xlcfg-parser.ts';

export interface VnumaNode {
  readonly pnode: number;
  readonly memkb: number;
  readonly vcpus: readonly number[];
  readonly distances: readonly number[];
}

export type VnumaSpec =
  | { readonly ok: true; readonly nodes: readonly VnumaNode[]; readonly vcpus: number; readonly memkb: number }
  | { readonly ok: false; readonly line: number; readonly message: string };

class VnumaError extends Error {
  readonly line: number;

  constructor(line: number, message: string) {
    super(message);
    this.line = line;
  }
}

function parseNumber(text: string, line: number): number {
  const length = decimalLength(text);
  if (length === 0) throw new VnumaError(line, `xl: failed to convert "${text}" to number`);
  return Number(text.slice(0, length));
}

/** `a` or `a-b`; a range that is not one gives no vCPU, and the totals will not match. */
function parseVcpuRange(text: string): number[] {
  const m = /^\s*(\d+)(?:-(\d+))?$/.exec(text);
  if (!m) return [];
  const first = Number(m[1]);
  const last = m[2] === undefined ? first : Number(m[2]);
  return last < first || last > 0xffff ? [] : Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

function parseNode(node: XlcfgValue, count: number): VnumaNode {
  if (node.kind !== 'list') throw new VnumaError(node.line, 'xl: cannot get vnode config option list');
  let pnode = 0;
  let memkb = 0;
  const vcpus: number[] = [];
  const distances = new Array<number>(count).fill(0);
  for (const item of node.items) {
    if (item.kind !== 'string') continue;
    const equals = item.text.indexOf('=');
    if (equals < 0 || equals === item.text.length - 1) {
      throw new VnumaError(item.line, `xl: failed to split "${item.text}" into pair`);
    }
    const value = item.text.slice(equals + 1).trim();
    const parts = value.split(',').filter((part) => part !== '');
    switch (item.text.slice(0, equals).trim()) {
      case 'pnode':
        pnode = parseNumber(value, item.line);
        break;
      case 'size':
        memkb = parseNumber(value, item.line) * KIB;
        break;
      case 'vcpus':
        for (const part of parts) vcpus.push(...parseVcpuRange(part));
        break;
      case 'vdistances':
        for (const [i, part] of parts.slice(0, count).entries()) distances[i] = parseNumber(part, item.line);
        break;
    }
  }
  return { pnode, memkb, vcpus, distances };
}

/** The nodes with the totals that maxvcpus and maxmem must agree with (or default to). */
export function parseVnuma(items: readonly XlcfgValue[]): VnumaSpec {
  try {
    const nodes = items.map((item) => parseNode(item, items.length));
    return {
      ok: true,
      nodes,
      vcpus: nodes.reduce((n, node) => n + node.vcpus.length, 0),
      memkb: nodes.reduce((n, node) => n + node.memkb, 0),
    };
  } catch (error) {
    if (!(error instanceof VnumaError)) throw error;
    return { ok: false, line: error.line, message: error.message };
  }
}

/** What libxl has against the nodes. */
export interface VnumaMistake {
  readonly at: LibxlPlace;
  readonly message: string;
}

/** libxl's own check, after xl's; null if it has nothing to say. */
export function checkVnuma(
  nodes: readonly VnumaNode[],
  maxVcpus: number,
  maxMemkb: number,
  hostNodes: number,
): VnumaMistake | null {
  const mistake = (at: LibxlPlace, message: string): VnumaMistake => ({ at, message });
  const invalid = nodes.find((node) => node.pnode >= hostNodes);
  if (invalid) return mistake(libxlAt.vnumaPnode, `Invalid pnode ${invalid.pnode} specified`);
  const total = nodes.reduce((n, node) => n + node.memkb, 0);
  if (total !== maxMemkb) {
    const text = `Amount of memory mismatch (0x${total.toString(16)} != 0x${maxMemkb.toString(16)})`;
    return mistake(libxlAt.vnumaMemory, text);
  }
  const seen = new Set<number>();
  for (const vcpu of nodes.flatMap((node) => node.vcpus)) {
    if (seen.has(vcpu)) return mistake(libxlAt.vnumaVcpuTwice, `Vcpu ${vcpu} assigned more than once`);
    seen.add(vcpu);
  }
  for (let vcpu = 0; vcpu < maxVcpus; vcpu++) {
    if (!seen.has(vcpu)) return mistake(libxlAt.vnumaVcpuMissing, `Vcpu ${vcpu} is not assigned to any vnode`);
  }
  for (const [i, node] of nodes.entries()) {
    const local = node.distances[i] ?? 0;
    const nearer = node.distances.findIndex((distance, j) => j !== i && local > distance);
    if (nearer < 0) continue;
    return mistake(libxlAt.vnumaDistance, `Distance from ${i} to ${nearer} smaller than ${i}'s local distance`);
  }
  return null;
}

/** The ranges of [0, hole) and [hole end, …) that each node takes; null if node 0 cannot hold the video RAM. */
export function buildVmemranges(
  nodes: readonly VnumaNode[],
  videoMemkb: number,
  layout: HvmLayout,
): VmemRange[] | null {
  if ((nodes[0]?.memkb ?? 0) < videoMemkb) return null;
  const holeStart = Math.min(layout.lowmemEnd, layout.mmioStart);
  const holeEnd = Math.max(layout.mmioStart + layout.mmioSize, FOUR_GIB);
  const ranges: VmemRange[] = [];
  let next = 0;
  for (const [nid, node] of nodes.entries()) {
    let remaining = (node.memkb - (nid === 0 ? videoMemkb : 0)) * KIB;
    while (remaining > 0) {
      if (next >= holeStart && next < holeEnd) next = holeEnd;
      const count = next < holeStart && next + remaining >= holeStart ? holeStart - next : remaining;
      ranges.push({ start: next, end: next + count, nid });
      remaining -= count;
      next += count;
    }
  }
  return ranges;
}
