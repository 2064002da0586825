import { expect, test } from 'vitest';
import { guestCommandSchema } from '#wire/guest-messages';
import { xlRequestSchema } from '#wire/messages';
import { decodeCreate } from '#wire/xl-create';
import { questionSchema, wantsSchema } from '../gateway/questions.ts';
import { deedSchema, verbsOf } from './deeds.ts';

test('deeds become what `hostloom xl` would send, and the toolstack can read it', () => {
  const create = verbsOf({ do: 'create', config: 'name = "g"\nmemory = 64\n' });
  expect(create.map(({ verb }) => verb)).toEqual(['create']);
  expect(decodeCreate(create[0]?.args ?? []).text).toContain('memory = 64');
  const dma = verbsOf({ do: 'dma', domid: 3, sbdf: 16, place: 'untouched', attempts: 4 });
  for (const { verb, args } of dma) {
    expect(verb).toBe('guest-command');
    expect(guestCommandSchema.safeParse(JSON.parse(args[1] ?? '')).success).toBe(true);
  }
  for (const mb of [0, 64]) {
    const [work] = verbsOf({ do: 'work', domid: 3, mb });
    expect(guestCommandSchema.safeParse(JSON.parse(work?.args[1] ?? '')).success).toBe(true);
  }
  for (const { verb, args } of [...create, ...dma])
    expect(xlRequestSchema.safeParse({ verb, args: [...args] }).success).toBe(true);
});

test.each([
  { do: 'destroy', domid: 0 },
  { do: 'destroy', domid: -1 },
  { do: 'destroy', domid: 1.5 },
  { do: 'destroy', domid: '1; reboot' },
  { do: 'pci-attach', domid: 1, sbdf: '0000:00:02.0 --force' },
  { do: 'pci-attach', domid: 1, sbdf: '../../etc' },
  { do: 'mem-set', domid: 1, mb: 1e12 },
  { do: 'create', config: 'x'.repeat(40_000) },
  { do: 'create', config: '' },
  { do: 'dma', domid: 1, sbdf: 16, place: 'anywhere', attempts: 1 },
  { do: 'dma', domid: 1, sbdf: 16, place: 'touched', attempts: 1e9 },
  { do: 'guest-command', domid: 1 },
  { do: 'constructor' },
  null,
  [],
  'destroy',
])('%j is no deed', (deed) => {
  expect(deedSchema.safeParse(deed).success).toBe(false);
});

test('wants and questions have bounds', () => {
  expect(wantsSchema.safeParse(Array(5).fill({ kind: 'lanes' })).success).toBe(false);
  expect(wantsSchema.safeParse([{ kind: 'map', first: -1, order: 0 }]).success).toBe(false);
  expect(wantsSchema.safeParse([{ kind: 'map', first: 0, order: 99 }]).success).toBe(false);
  expect(questionSchema.safeParse({ ask: 'frame', mfn: 2 ** 60 }).success).toBe(false);
  expect(questionSchema.safeParse({ ask: 'gfn', domid: 1, gfn: 5 }).success).toBe(true);
});
