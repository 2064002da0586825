// A lender (dom0, or a domain made a device model) and a borrower with a window, driven through the dispatcher.
import type { Domain } from '#model/domain/domain';
import type { HostConfig } from '#model/host-config';
import { onFailure } from '#model/lending/window';
import { bootTestbed, hypercall, makeGuest, type Testbed } from './hypercall-fixture.ts';

/** Where the lender has its pages: two superpages and 64 single pages, contents gfn + 1. */
export const LENDER_2M = 0x400;
export const LENDER_4K = 0x1000;
export const SINGLES = 64;
/** The borrower's window of 4K pages, and one of 2M pages. */
export const WINDOW = 0x8000;
export const WINDOW_PAGES = 1024;
export const WINDOW_2M = 0x10000;

export interface Lending {
  readonly bed: Testbed;
  readonly lender: Domain;
  readonly borrower: Domain;
}

export interface LendingSpec extends Partial<HostConfig> {
  /** A domain of its own lends, not dom0. */
  readonly driverDomain?: boolean;
  readonly iommu?: boolean;
  readonly failure?: number;
}

export function bootLending(spec: LendingSpec = {}): Lending {
  const { driverDomain = false, iommu = false, failure = onFailure.zeroPage, ...overrides } = spec;
  const bed = bootTestbed({ grantFrames: 1, maptrackFrames: 1, ...overrides });
  const borrower = makeGuest(bed, { iommu });
  const lender = driverDomain ? makeGuest(bed) : bed.dom0;
  if (driverDomain) hypercall(bed, bed.dom0, { op: 'set_target', domid: lender.domid, target: borrower.domid });
  const { domid } = lender;
  const populate = (order: number, start: number, count: number): void => {
    const extents = { start, count };
    hypercall(bed, bed.dom0, { op: 'populate_physmap', domid, order, memFlags: 0, extents });
  };
  populate(9, LENDER_2M, 2);
  populate(0, LENDER_4K, SINGLES);
  for (let i = 0; i < SINGLES; i++) store(bed, lender, LENDER_4K + i, LENDER_4K + i + 1);
  hypercall(bed, bed.dom0, {
    op: 'populate_physmap',
    domid: borrower.domid,
    order: 0,
    memFlags: 0,
    extents: { start: 0, count: 16 },
  });
  open({ bed, lender, borrower }, WINDOW, WINDOW_PAGES, 0, failure);
  open({ bed, lender, borrower }, WINDOW_2M, 1024, 9, failure);
  return { bed, lender, borrower };
}

export const open = (
  { bed, lender, borrower }: Lending,
  first: number,
  count: number,
  order = 0,
  failure = 0,
): number =>
  hypercall(bed, lender, { op: 'lend_open', domid: borrower.domid, first, count, order, onFailure: failure }).rc;

export const lendTo = (
  { bed, lender, borrower }: Lending,
  first: number,
  from: number,
  count = 1,
  flags = 0,
  sequence = 0,
): number => {
  const gfns = { start: from, count };
  return hypercall(bed, lender, { op: 'lend', domid: borrower.domid, first, gfns, flags, sequence }).rc;
};

export const revokeFrom = ({ bed, lender, borrower }: Lending, first: number, count = 1, writeProtect = false) =>
  hypercall(bed, lender, { op: 'revoke', domid: borrower.domid, first, count, writeProtect });

export const store = (bed: Testbed, d: Domain, gfn: number, tag: number) =>
  hypercall(bed, d, { op: 'store', frames: { start: gfn, count: 1 }, tag });
export const tags = (bed: Testbed, d: Domain, start: number, count = 1) =>
  hypercall(bed, d, { op: 'load', frames: { start, count } }).tags;
export const faultsOf = ({ bed, lender }: Lending) => hypercall(bed, lender, { op: 'lend_faults', wait: false }).faults;
