import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseRealGuests } from './conformance/real-guests.ts';
import { compareRealGuest, type RealReport } from './conformance-real.ts';

const inputs = process.env.HOSTLOOM_INPUTS;

const row = (start: number, end: number, type: string) => ({
  start: `0x${start.toString(16)}`,
  end: `0x${end.toString(16)}`,
  type,
});
const guestsText = (entry: object): string => JSON.stringify({ g: entry });
function report(entry: object, bugCompat = false): RealReport {
  const [guest] = parseRealGuests(guestsText(entry), 'guests.json');
  if (!guest) throw new Error('no guest');
  return compareRealGuest(guest, bugCompat);
}

const hvm = { type: 'hvm', vga: 'none', memory: 64 };
const hvmTable = [
  row(0, 0x9ffff, 'RAM'),
  row(0xc0000, 0xfffff, 'RESERVED'),
  row(0x100000, 0x3ffffff, 'RAM'),
  row(0xfc000000, 0xfc00afff, 'NVS'),
  row(0xfc00b000, 0xffffffff, 'RESERVED'),
];
const rmrr = row(0x7fff0000, 0x7fff3fff, 'RESERVED');

describe('a guest beside what a real Xen gave it', () => {
  it('agrees when maps, nodes and Mem are those of the guest that is built', () => {
    const xenstore = { 'static-max': 65536, target: 65536, videoram: 0, xl_list_mem_mib: 63 };
    const found = report({ config: hvm, hvmloader_e820: hvmTable, xenstore });
    expect(found).toMatchObject({ verdict: 'agrees', differences: [] });
    expect(found.compared).toHaveLength(5);
  });

  it('differs, with what and where, when one number is another', () => {
    const found = report({ config: hvm, hvmloader_e820: hvmTable.with(2, row(0x100000, 0x3fff000, 'RAM')) });
    expect(found).toMatchObject({ verdict: 'differs', explainedBy: [] });
    expect(found.differences).toEqual([
      { item: "hvmloader's E820", path: '$.2.end', expected: '0x3fff000', got: '0x3ffffff' },
    ]);
  });

  it('differs by the bug of the rdm= parser, which explains it; to the letter it agrees', () => {
    const entry = { config: { ...hvm, rdm: 'strategy=host,policy=strict' }, hvmloader_e820: hvmTable };
    expect(report(entry)).toMatchObject({ verdict: 'explained', explainedBy: ['rdm-parser-bug'] });
    expect(report(entry, true)).toMatchObject({ verdict: 'agrees' });
    const documented = { ...entry, hvmloader_e820: hvmTable.toSpliced(3, 0, rmrr) };
    expect(report(documented)).toMatchObject({ verdict: 'agrees' });
  });

  it('is not explained by a rule that leaves anything different', () => {
    const wrong = hvmTable.with(0, row(0, 0x8ffff, 'RAM'));
    const entry = { config: { ...hvm, rdm: 'strategy=host,policy=strict' }, hvmloader_e820: wrong };
    expect(report(entry)).toMatchObject({ verdict: 'differs', explainedBy: [] });
  });

  it('differs when the guest cannot be built, or there is nothing to compare', () => {
    const refused = report({ config: { ...hvm, maxmem: 128, pci: ['00:05.0'] }, xenstore: { target: 0 } });
    expect(refused.verdict).toBe('differs');
    expect(refused.notes[0]).toContain('not supported together with PoD');
    expect(report({ config: hvm })).toMatchObject({ verdict: 'differs', notes: ['nothing to compare'] });
    expect(report({ config: hvm, other: 1, xenstore: { target: 65536 } }).notes).toEqual(['"other" is not compared']);
  });

  it("sees the host's ranges in a PV guest with e820_host, and its own RAM before them", () => {
    const seen = [
      row(0, 0x9ffff, 'usable'),
      row(0xa0000, 0xfffff, 'reserved'),
      row(0x100000, 0x3ffffff, 'usable'),
      row(0x4000000, 0x7ffdcfff, 'unusable'),
      row(0x7ffdd000, 0x7fffffff, 'reserved'),
      row(0xfffc0000, 0xffffffff, 'reserved'),
    ];
    const entry = { config: { type: 'pv', memory: 64, e820_host: 1 }, linux_bios_e820: seen };
    expect(report(entry)).toMatchObject({ verdict: 'agrees' });
    const other = { ...entry, linux_bios_e820: seen.with(2, row(0x100000, 0x4ffffff, 'usable')) };
    expect(report(other)).toMatchObject({ verdict: 'differs' });
  });
});

describe('a file of guests', () => {
  it('is refused with the guest and what is wrong with it', () => {
    const refusal = (text: string): string => {
      try {
        parseRealGuests(text, 'guests.json');
      } catch (error) {
        return (error as Error).message; // parseRealGuests throws OperatorError only
      }
      return '';
    };
    expect(refusal('{')).toContain('guests.json: not JSON');
    expect(refusal('[]')).toContain('no object of guests');
    expect(refusal('{}')).toContain('no guest');
    expect(refusal('{"g":{}}')).toContain('guest g: no "config"');
    expect(refusal('{"g":{"config":{"memory":null}}}')).toContain('config.memory');
    expect(refusal('{"g":{"config":{},"hvmloader_e820":[{"start":1}]}}')).toContain('field end');
    expect(refusal('{"g":{"config":{},"xenstore":{"target":"1"}}}')).toContain('field target');
  });
});

describe.skipIf(!inputs)('guests of a real Xen 4.17 (HOSTLOOM_INPUTS names the directory they are in)', () => {
  const file = join(inputs ?? '', 'realxen', 'guests.json');
  const guests = inputs ? parseRealGuests(readFileSync(file, 'utf8'), file) : [];

  it.each(guests.map((guest) => [guest.name, guest] as const))('%s agrees, or differs by a named rule', (_, guest) => {
    const found = compareRealGuest(guest, false);
    expect(found.verdict, JSON.stringify(found)).not.toBe('differs');
  });

  it('only the ACPI region of PVH guests is left to explain when Xen is taken to the letter', () => {
    const explained = guests.map((guest) => compareRealGuest(guest, true)).flatMap(({ explainedBy }) => explainedBy);
    expect(new Set(explained)).toEqual(new Set(['pvh-acpi-region-type']));
  });
});
