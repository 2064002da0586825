import { describe, expect, test } from 'vitest';
import { bearerOf, isToken, type Right, rightOf, type Visitor } from './access.ts';

const TOKEN = 'a-token-of-sixteen';
const local = { bind: '127.0.0.1', token: TOKEN, origins: [] };
const open = { bind: '0.0.0.0', token: TOKEN, origins: ['https://host.example:8443'] };
const visitor = (over: Partial<Visitor> = {}): Visitor => ({
  host: '127.0.0.1:3000',
  origin: undefined,
  token: undefined,
  ...over,
});

describe('on loopback', () => {
  const cases: readonly (readonly [string, Partial<Visitor>, Right])[] = [
    ['anybody on the machine reads', {}, 'read'],
    ['the token changes', { token: TOKEN }, 'change'],
    ['a wrong token only reads', { token: 'a-token-of-sixteeN' }, 'read'],
    ['an empty token is a wrong one', { token: '' }, 'read'],
    ['its own page reads', { origin: 'http://127.0.0.1:3000' }, 'read'],
    ['by the name localhost too', { host: 'localhost:3000', origin: 'http://localhost:3000' }, 'read'],
    ['by the IPv6 address too', { host: '[::1]:3000' }, 'read'],
    ['a page of another site may not even read', { origin: 'http://evil.example' }, 'none'],
    ['… not with the token either', { origin: 'http://evil.example', token: TOKEN }, 'none'],
    ['a page of another port is another site', { origin: 'http://127.0.0.1:3001' }, 'none'],
    [
      'a name that was pointed here is refused (DNS rebinding)',
      { host: 'evil.example:3000', origin: 'http://evil.example:3000' },
      'none',
    ],
    ['a file’s page has no origin worth the name', { origin: 'null' }, 'none'],
    ['a request without a host is refused', { host: undefined }, 'none'],
  ];
  test.each(cases)('%s', (_, over, right) => {
    expect(rightOf(visitor(over), local)).toBe(right);
  });
});

describe('off loopback everything needs the token', () => {
  const cases: readonly (readonly [string, Partial<Visitor>, Right])[] = [
    ['reading without it', { host: 'host.example' }, 'none'],
    ['reading with it', { host: 'host.example', token: TOKEN }, 'change'],
    ['a wrong one', { host: 'host.example', token: 'x' }, 'none'],
    ['another site with it', { host: 'host.example', origin: 'https://evil.example', token: TOKEN }, 'none'],
    [
      'an origin that the operator named',
      { host: 'inside:80', origin: 'https://host.example:8443', token: TOKEN },
      'change',
    ],
  ];
  test.each(cases)('%s', (_, over, right) => {
    expect(rightOf(visitor(over), open)).toBe(right);
  });
});

test('a token is compared whole, and read from a header only in its own form', () => {
  expect(isToken(TOKEN, TOKEN)).toBe(true);
  expect(isToken(`${TOKEN} `, TOKEN)).toBe(false);
  expect(bearerOf(`Bearer ${TOKEN}`)).toBe(TOKEN);
  expect(bearerOf(`Basic ${TOKEN}`)).toBeUndefined();
  expect(bearerOf(undefined)).toBeUndefined();
});
