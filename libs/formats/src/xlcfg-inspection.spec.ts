import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readXlcfgFile } from './xlcfg-inspection.ts';

const inputs = process.env.HOSTLOOM_INPUTS;
const configs = inputs === undefined ? undefined : join(inputs, 'cfg');

describe.skipIf(configs === undefined || !existsSync(configs))(
  'collected configurations (set HOSTLOOM_INPUTS to their directory)',
  () => {
    const names = configs === undefined ? [] : readdirSync(configs).filter((name) => name.endsWith('.cfg'));
    it.each(names)('%s reads as its description says', (name) => {
      const text = readFileSync(join(configs ?? '', name), 'utf8');
      const described = JSON.parse(readFileSync(join(configs ?? '', name.replace(/cfg$/, 'json')), 'utf8'));
      expect(readXlcfgFile(text, name).object).toEqual(described.expect);
    });
  },
);

describe('a configuration that xl refuses', () => {
  it('is read as far as its assignments are whole, with the messages of xl', () => {
    const { object, refused, complaints } = readXlcfgFile(
      "memory = '4096' maxmem = 8192\ntype = hvm\npci = [ '01:00.0,permissive=1' ]\n",
      'guest.cfg',
    );
    expect(refused).toBe(true);
    expect(object).toMatchObject({ memory: '4096', maxmem: '8192', type: null, pci: [{ bdf: '01:00.0' }] });
    expect(complaints[0]).toContain('guest.cfg:1: config parsing error near `maxmem');
    expect(complaints.at(-1)).toContain('guest.cfg:1: hint: two assignments on one line');
  });

  it('for what it says, with its syntax right, is told so; the file as such was read', () => {
    const { refused, text } = readXlcfgFile("name = 'g'\ntype = 'hvm'\nmemory = 1024\npci = [ 'zz' ]\n", 'g');
    expect(text).toContain('xl refuses this file:');
    expect(refused).toBe(false);
  });

  it('is shown with its control bytes written out', () => {
    const { text } = readXlcfgFile("name = 'g'\nmemory = '10\r\u001b[2J'\n", 'g');
    expect(text).toContain('10\\r\\x1b[2J');
  });

  it('is an error where no assignment in it is whole', () => {
    expect(() => readXlcfgFile('Memory: 12\n', 'g')).toThrow('g:1: config parsing error near `Memory:');
  });

  it('gets a hint at CR LF line ends, at upper-case keys and at Python', () => {
    const hints = (text: string): string[] =>
      readXlcfgFile(text, 'g').complaints.filter((line) => line.includes('hint:'));
    expect(hints('memory = 1024\r\nvcpus = 1\r\n').join()).toContain('g:1: hint: lines end in CR LF');
    expect(hints('vcpus = 1\nMemory = 1024\n').join()).toContain('g:2: hint: keys are lower case');
    expect(hints('import os\nvcpus = 1\n').join()).toContain('g:1: hint: Python');
    expect(hints('memory = 1024').length).toBe(0);
  });

  it('keeps what CR LF files say', () => {
    expect(readXlcfgFile('memory = 1024\r\nmaxmem = 2048\r\n', 'g').object).toMatchObject({
      memory: '1024',
      maxmem: '2048',
    });
  });
});
