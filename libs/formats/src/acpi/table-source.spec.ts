import { describe, expect, it } from 'vitest';
import { sampleDmar, sampleIvrs } from '../../test-support/sample-tables.ts';
import { acpidumpText, dslText } from '../../test-support/table-writer.ts';
import { tableBytes } from './table-source.ts';

const [dmar = new Uint8Array()] = sampleDmar;
const [ivrs = new Uint8Array()] = sampleIvrs;
const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const dump = acpidumpText([
  { name: 'FACP', bytes: Uint8Array.from([1, 2, 3]) },
  { name: 'IVRS', bytes: ivrs },
  { name: 'DMAR', bytes: dmar },
]);

describe('a table', () => {
  it('is taken as it is from a binary file', () => {
    expect(tableBytes(dmar, 'DMAR')).toBe(dmar);
  });

  it.each([
    ['the text of acpidump, among others', dump],
    ['such a text with Windows line ends', dump.replaceAll('\n', '\r\n')],
    ['such a text that has the table twice', dump + dump],
    ['a .dsl with its raw table data', dslText(dmar)],
    ['such a .dsl quoted in a mail', dslText(dmar).replace(/^/gm, '>>> ')],
    ['such a .dsl of an old iasl', dslText(dmar).replaceAll(' //', '')],
    ['such a .dsl with small letters', dslText(dmar).replace(/^ {4}.*$/gm, (row) => row.toLowerCase())],
  ])('is found in %s', (_, text) => {
    expect(tableBytes(bytesOf(text), 'DMAR')).toEqual(dmar);
  });

  it('is found in a text that PowerShell wrote in UTF-16', () => {
    const utf16 = Uint8Array.from([0xff, 0xfe, ...[...dump].flatMap((c) => [c.charCodeAt(0), 0])]);
    expect(tableBytes(utf16, 'IVRS')).toEqual(ivrs);
  });

  it.each([
    [
      'a text without it, naming what is there',
      acpidumpText([{ name: 'IVRS', bytes: ivrs }]),
      /no DMAR among .*: IVRS/,
    ],
    ['a text without any table', 'hello\n', /without the bytes of a table/],
    ['two that differ', dump + acpidumpText([{ name: 'DMAR', bytes: dmar.slice(0, 60) }]), /two different DMAR tables/],
    [
      'a lost line',
      acpidumpText([{ name: 'DMAR', bytes: dmar }]).replace(/^ {4}0010: .*\n/m, ''),
      /offset 0x20 is told, 0x10 is next/,
    ],
    ['a shortened .dsl', dslText(dmar).split('\n').slice(0, -3).join('\n'), /304 bytes are told .*, 272 are there/],
  ])('is refused from %s', (_, text, what) => {
    expect(() => tableBytes(bytesOf(text), 'DMAR')).toThrow(what);
  });
});
