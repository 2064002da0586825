import { describe, expect, it } from 'vitest';
import { planLayout } from './build-layout.ts';
import { buildVmemranges, checkVnuma, parseVnuma } from './vnuma.ts';
import { parseXlcfg } from './xlcfg-parser.ts';

function nodes(text: string) {
  const value = parseXlcfg(`v=${text}`, 'g.cfg').settings.get('v')?.value;
  return parseVnuma(value?.kind === 'list' ? value.items : []);
}

const two = nodes(
  '[["pnode=0","size=2048","vcpus=0-1","vdistances=10,20"],["pnode=0","size=4096","vcpus=2,3","vdistances=20,10"]]',
);

describe('virtual NUMA', () => {
  it('reads nodes with their totals', () => {
    expect(two).toMatchObject({ ok: true, vcpus: 4, memkb: 6291456 });
  });

  it('an option without a value is an error of its line', () => {
    expect(nodes('[["pnode="]]')).toEqual({ ok: false, line: 1, message: 'xl: failed to split "pnode=" into pair' });
  });

  it('libxl wants each vCPU in exactly one node and the sizes to add up', () => {
    if (!two.ok) throw new Error(two.message);
    expect(checkVnuma(two.nodes, 4, 6291456, 1)).toBeNull();
    expect(checkVnuma(two.nodes, 5, 6291456, 1)?.message).toBe('Vcpu 4 is not assigned to any vnode');
    expect(checkVnuma(two.nodes, 4, 1024, 1)?.message).toContain('Amount of memory mismatch');
  });

  it('the ranges cover the RAM around the hole, video memory taken from node 0', () => {
    if (!two.ok) throw new Error(two.message);
    const layout = planLayout({
      type: 'hvm',
      maxMemkb: 6291456,
      targetMemkb: 6291456,
      videoMemkb: 8192,
      mmioHoleMemkb: 0,
    });
    expect(buildVmemranges(two.nodes, 8192, layout)).toEqual([
      { start: 0, end: 0x7f800000, nid: 0 },
      { start: 0x7f800000, end: 0xf0000000, nid: 1 },
      { start: 0x100000000, end: layout.highmemEnd, nid: 1 },
    ]);
  });
});
