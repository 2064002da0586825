import { expect, test } from 'vitest';
import { encodeLook, type LiveMap, unpackLooks, wantKey } from '#wire/live';
import { Audience, LOOKS_EVERY_MS } from './audience.ts';

const want = { kind: 'map', first: 0, order: 8 } as const;
const key = wantKey(want);
const picture = (cells: number): Uint8Array => {
  const head: LiveMap = { kind: 'map', key, first: 0, order: 8, cells, frames: 1 };
  return encodeLook(head, new Uint8Array(cells));
};
const kinds = (message: Uint8Array | null): string[] =>
  message ? unpackLooks(message).map(({ head }) => head.kind) : [];

test('a page gets what it wants, when it changed, and no more than six messages a second', () => {
  const audience = new Audience();
  audience.join('a');
  audience.want('a', [want]);
  audience.show(key, picture(1));
  expect(kinds(audience.due('a', 0))).toEqual(['map']);
  expect(audience.due('a', 1000)).toBeNull();
  let sent = 0;
  for (let ms = 2000; ms < 12_000; ms += 1) {
    audience.show(key, picture(2));
    if (audience.due('a', ms)) sent++;
  }
  expect(sent / 10).toBeLessThanOrEqual(1000 / LOOKS_EVERY_MS + 0.1);
  expect(sent / 10).toBeLessThanOrEqual(7);
});

test('fifty thousand looks a second become the newest one', () => {
  const audience = new Audience();
  audience.join('a');
  audience.want('a', [want]);
  for (let i = 1; i <= 50_000; i++) audience.show(key, picture(i % 100));
  const message = audience.due('a', 0);
  expect(kinds(message)).toEqual(['map']);
  expect(message?.length).toBeLessThan(1000);
});

test('a page that comes later, or to a picture that is there, is shown it at once; one that left costs nothing', () => {
  const audience = new Audience();
  audience.join('a');
  audience.want('a', [want]);
  audience.show(key, picture(1));
  audience.join('b');
  audience.want('b', [want]);
  expect(kinds(audience.due('b', 0))).toEqual(['map']);
  audience.leave('a');
  expect(audience.union(16)).toEqual([want]);
  audience.leave('b');
  expect(audience.union(16)).toEqual([]);
  audience.show(key, picture(1));
  audience.join('c');
  audience.want('c', [want]);
  expect(audience.due('c', 0)).toBeNull();
});

test('wants that are the same are asked for once, and what is too much is cut', () => {
  const audience = new Audience();
  for (const id of ['a', 'b', 'c']) {
    audience.join(id);
    audience.want(id, [want, { kind: 'strip', domid: id.charCodeAt(0), from: 0, to: 0 }]);
  }
  expect(audience.union(16)).toHaveLength(4);
  expect(audience.union(2)).toHaveLength(2);
});
