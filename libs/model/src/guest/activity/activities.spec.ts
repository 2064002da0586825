import { describe, expect, it } from 'vitest';
import { Machines } from '../../../test-support/activity-fixture.ts';
import { checkInvariants } from '../../invariants/check.ts';
import { Board, boardBytes, boardState } from './board.ts';

const WINDOW = 0x100000;

describe('the board of an activity', () => {
  const names = ['moves'] as const;
  const boards = () => {
    const buffer = new SharedArrayBuffer(boardBytes(names.length));
    return [new Board(buffer, names), new Board(buffer, names)] as const;
  };

  it('an order that every vCPU hears is carried out once, and a later one is not undone by an earlier', () => {
    const [a, b] = boards();
    a.begin(3, [7], 10);
    a.attempt(4);
    b.begin(3, [7], 10);
    expect([b.attempts, b.peer(0), b.state, b.begun]).toEqual([4, 7, boardState.opening, 3]);
    b.begin(2, [8], 1);
    expect([a.peer(0), a.turn]).toEqual([7, 3]);
    expect([a.hasSettled(3), a.hasSettled(4)]).toEqual([true, false]);
  });

  it('an order to end what never began, or failed, ends nothing', () => {
    const [a] = boards();
    a.end(1);
    expect(a.state).toBe(boardState.idle);
    a.begin(2, [], 0);
    a.state = boardState.failed;
    a.end(3);
    expect([a.state, a.enough]).toEqual([boardState.failed, false]);
  });
});

describe('a buffer shown to a guest', () => {
  const lender = { run: 'lender', window: WINDOW, pages: 4 } as const;
  const borrower = { run: 'borrower', window: WINDOW, pages: 4 } as const;

  for (const sharing of [
    { share: 'grant', mapping: 'pin' },
    { share: 'foreign', mapping: 'pin' },
    { share: 'fixed-blob', mapping: 'notifier' },
  ] as const) {
    it(`as ${sharing.share} of pinned memory: nothing of it moves, and the guest finds what it wrote`, () => {
      const machines = new Machines(sharing);
      const dom0 = machines.dom0(lender);
      const guest = machines.guest(borrower);
      expect(machines.begin(dom0, 'lender', [guest], 60).phase).toBe('ready');
      expect(machines.begin(guest, 'borrower', [dom0], 0).phase).toBe('ready');
      machines.runUntil(dom0, 'lender', ({ attempts }) => attempts >= 60);
      const used = machines.end(guest, 'borrower');
      const shown = machines.end(dom0, 'lender');
      expect(used.figures.accesses).toBeGreaterThan(0);
      expect(shown.figures).toMatchObject({ moves: 0, kept: 0 });
      expect([machines.violated, checkInvariants(machines.host.h)]).toEqual([[], []]);
    });
  }

  it('as foreign frames with a notifier: each move takes its page away from the guest, and nobody brings it back', () => {
    const machines = new Machines({ share: 'foreign', mapping: 'notifier' });
    const dom0 = machines.dom0(lender);
    const guest = machines.guest(borrower);
    machines.begin(dom0, 'lender', [guest], 60);
    machines.begin(guest, 'borrower', [dom0], 0);
    const shown = machines.runUntil(dom0, 'lender', ({ attempts }) => attempts >= 60);
    expect(shown.figures.moves).toBeGreaterThan(0);
    expect(machines.end(guest, 'borrower').figures.missing).toBeGreaterThan(0);
    machines.end(dom0, 'lender');
    expect([machines.violated, checkInvariants(machines.host.h)]).toEqual([[], []]);
  });

  it('as grants with a notifier: the callback cannot take a page back, and both find foreign data', () => {
    const machines = new Machines({ share: 'grant', mapping: 'notifier' });
    const dom0 = machines.dom0(lender);
    const guest = machines.guest(borrower);
    machines.begin(dom0, 'lender', [guest], 60);
    machines.begin(guest, 'borrower', [dom0], 0);
    const shown = machines.runUntil(dom0, 'lender', ({ attempts }) => attempts >= 60);
    expect(shown.figures.kept).toBeGreaterThan(0);
    expect(machines.violated).toEqual(['noGrantedPageFreedWhileMapped', 'noWriteLost']);
    const told = dom0.events.of('violation').reduce((sum, { count }) => sum + count, 0);
    expect(told).toBeGreaterThanOrEqual(shown.figures.kept ?? 0);
  });

  it('a guest that is granted nothing says why it cannot begin', () => {
    const machines = new Machines({ share: 'grant', mapping: 'pin' });
    const dom0 = machines.dom0();
    const guest = machines.guest(borrower);
    const answer = machines.begin(guest, 'borrower', [dom0], 0);
    expect([answer.phase, answer.text]).toEqual([
      'failed',
      expect.stringMatching(/grants of d0 cannot be mapped: -\d/),
    ]);
  });
});

describe('a virtual machine of KVM', () => {
  it('finds what it wrote while its kernel moves and swaps its memory', () => {
    const machines = new Machines();
    const dom0 = machines.dom0({ run: 'kvm', pages: 4, snapshot: '64' });
    machines.begin(dom0, 'kvm', [], 40);
    machines.runUntil(dom0, 'kvm', ({ attempts }) => attempts >= 40);
    const { figures, phase } = machines.end(dom0, 'kvm');
    expect([phase, figures.wrong, machines.violated]).toEqual(['over', 0, []]);
    expect(figures.faults).toBeGreaterThanOrEqual(40);
  });

  it('with its sequence in a signed 32-bit variable every fault looks stale from 2^31 on', () => {
    const machines = new Machines();
    const dom0 = machines.dom0({ run: 'kvm', pages: 4, snapshot: 'int32' });
    machines.begin(dom0, 'kvm', [], 0);
    machines.runUntil(dom0, 'kvm', () => machines.violated.length > 0);
    expect(machines.violated).toEqual(['faultMakesProgress']);
  });
});

describe('lent pages', () => {
  it('a 2M buffer of which single pages are taken back, in both sizes of window', () => {
    for (const order of ['4k', '2m'] as const) {
      const machines = new Machines({ share: 'lend' });
      const dom0 = machines.dom0({ run: 'large-lender', window: WINDOW, order });
      const guest = machines.guest();
      machines.begin(dom0, 'large-lender', [guest], 20);
      const { figures } = machines.runUntil(dom0, 'large-lender', ({ attempts }) => attempts >= 20);
      expect(figures.failed).toBe(0);
      expect(figures.revoked).toBeGreaterThanOrEqual(order === '2m' ? (20 / 4) * 512 : 15);
      machines.end(dom0, 'large-lender');
      expect([machines.violated, checkInvariants(machines.host.h)]).toEqual([[], []]);
    }
  });
});

describe('grants in a process', () => {
  // A GPU's job is waited for: that takes a thread of its own (scenarios/gntdev-gpu-cycle.yaml).
  it('are used by a disk, unmapped and given back, use after use, while the frontend asks for them in vain', () => {
    const machines = new Machines();
    const dom0 = machines.dom0({ run: 'gntdev', pages: 2, use: 'io' });
    const guest = machines.guest({ run: 'frontend', pages: 2 });
    expect(machines.begin(guest, 'frontend', [dom0], 0).phase).toBe('ready');
    expect(machines.begin(dom0, 'gntdev', [guest], 12).phase).toBe('ready');
    machines.runUntil(dom0, 'gntdev', ({ attempts }) => attempts >= 12);
    const { figures } = machines.end(dom0, 'gntdev');
    expect(figures.uses).toBeGreaterThanOrEqual(6);
    expect([figures.hung, figures.writes]).toEqual([0, (figures.uses ?? 0) * 2]);
    expect(machines.end(guest, 'frontend').figures.deferred).toBeGreaterThan(0);
    expect([machines.violated, checkInvariants(machines.host.h)]).toEqual([[], []]);
  });

  it('a frontend that uses busy pages is written over by the backend’s disk', () => {
    const machines = new Machines({ grantBusy: 'ignore' });
    const dom0 = machines.dom0({ run: 'gntdev', pages: 2, use: 'io' });
    const guest = machines.guest({ run: 'frontend', pages: 2 });
    machines.begin(guest, 'frontend', [dom0], 0);
    machines.begin(dom0, 'gntdev', [guest], 0);
    machines.runUntil(guest, 'frontend', ({ figures }) => (figures.overwritten ?? 0) > 0);
    expect(machines.violated).toEqual(['noGrantedPageFreedWhileMapped', 'noWriteLost']);
  });
});

it('a kernel without enough vCPUs for an activity does not boot', () => {
  const machines = new Machines();
  expect(() => machines.guest({ run: 'kvm', pages: 4, snapshot: '64' })).toThrow(/takes 3 vCPUs, and there are 2/);
});
