import { expect, it } from 'vitest';
import { isInline, placeOfXlLine, xlConfigText } from './guest-text.ts';
import type { ScenarioGuest } from './scenario.ts';

const guest: ScenarioGuest = {
  line: 9,
  name: 'win7',
  config: { file: 'scenarios/guests/w.cfg', firstLine: 1, text: 'name = "x"\nmemory = 512' },
  set: { memory: 1024, pci: ['0000:00:02.0,rdm_policy=relaxed'], comment: 'a "b" \\c' },
  workload: [],
};

it('adds what the scenario sets below the file, in xl’s syntax, the guest’s name last', () => {
  expect(xlConfigText(guest, { memory: 2048 })).toBe(
    'name = "x"\nmemory = 512\nmemory = 2048\npci = [ "0000:00:02.0,rdm_policy=relaxed" ]\ncomment = "a \\"b\\" \\\\c"\nname = "win7"\n',
  );
});

it('leads a line of the text back to the xl.cfg, and one of the added lines to the scenario', () => {
  expect(placeOfXlLine(guest, 's.yaml', 2)).toEqual({ file: 'scenarios/guests/w.cfg', line: 2 });
  expect(placeOfXlLine(guest, 's.yaml', 3)).toEqual({ file: 's.yaml', line: 9 });
  const inline = { ...guest, config: { file: 's.yaml', firstLine: 12, text: 'memory = 1\n' } };
  expect(placeOfXlLine(inline, 's.yaml', 1)).toEqual({ file: 's.yaml', line: 12 });
});

it('takes text with an assignment or several lines for the xl.cfg itself', () => {
  expect(['guests/a.cfg', 'memory = 5', 'a\nb'].map(isInline)).toEqual([false, true, true]);
});
