import { expect, test } from 'vitest';
import { consoleEvent, faultEvent, guestEvents } from './host-events.ts';

test.each([
  ['(XEN) (d3) Invoking SeaBIOS ...', 3],
  ['(XEN) d12 is over', 12],
  ['(XEN) Domain 4 reported crashed', 4],
  ['(XEN) [VT-D]DMAR:[DMA Write] Request device [0000:00:02.0] fault addr 7d0d6000', -1],
])('%s is of domain %i', (text, domid) => {
  expect(consoleEvent(1, text)).toEqual({ tsMs: 1, kind: 'console', domid, text });
});

test("a fault carries Xen's two lines word for word", () => {
  const cause = { domid: 3, p2mType: 'populateOnDemand', why: 'nobody touched it' };
  const record = { kind: 'dma-fault', tsUs: 5000, sbdf: 16, dfn: 0x7d0d6, write: true, reason: 5, cause };
  const event = faultEvent(Buffer.from(JSON.stringify(record)), () => 0);
  expect(event?.fault?.lines).toEqual([
    '(XEN) [VT-D]DMAR:[DMA Write] Request device [0000:00:02.0] fault addr 7d0d6000',
    '(XEN) [VT-D]DMAR: reason 05 - PTE Write access is not set on iommu:0',
  ]);
  expect([event?.tsMs, event?.domid, event?.fault?.why]).toEqual([5, 3, 'nobody touched it']);
});

test('reports that come by the hundred are no events; a kernel that panics is one', () => {
  const news = (name: string, data: object): Buffer =>
    Buffer.from(JSON.stringify({ kind: 'event', name, data, tsUs: 1, domid: 2, incarnation: 1 }));
  expect(guestEvents(news('memoryRound', {}))).toEqual([]);
  expect(guestEvents(news('panic', { text: 'BUG' }))).toMatchObject([
    { kind: 'guest', domid: 2, text: 'its kernel panicked: BUG' },
  ]);
});
