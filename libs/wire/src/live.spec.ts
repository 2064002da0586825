import { expect, test } from 'vitest';
import { decodeLook, encodeLook, type LiveMap, packLooks, unpackLooks, wantKey } from './live.ts';

const map = (first: number): LiveMap => ({
  kind: 'map',
  key: `map:${first}:8`,
  first,
  order: 8,
  cells: 2,
  frames: 512,
});

test('looks come out of a message as they went in, whatever lies before them in memory', () => {
  const bytes = Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8]);
  const message = packLooks([encodeLook(map(0), bytes), encodeLook(map(256))]);
  const shifted = new Uint8Array(message.length + 3);
  shifted.set(message, 3);
  const looks = unpackLooks(shifted.subarray(3));
  expect(looks.map(({ head }) => head)).toEqual([map(0), map(256)]);
  expect([...(looks[0]?.bytes ?? [])]).toEqual([...bytes]);
  expect(looks[1]?.bytes.length).toBe(0);
});

test('a look that is cut off is refused', () => {
  const record = encodeLook(map(0));
  expect(() => decodeLook(record.subarray(0, record.length - 1))).toThrow();
});

test('wants that show the same have the same key, others do not', () => {
  expect(wantKey({ kind: 'strip', domid: 3, from: 0, to: 0 })).not.toBe(
    wantKey({ kind: 'strip', domid: 30, from: 0, to: 0 }),
  );
  expect(wantKey({ kind: 'map', first: 0, order: 8 })).toBe(map(0).key);
});
