// Memory that one domain shows to another while its own kernel goes on with it: how it was shown, what moved, who noticed, and what
// the one who did not did to whom. Told wherever a backend lends, grants or maps, and where KVM does the same without Xen.
import type { Explanation } from '#report/verdict';
import type { TwinState } from '../runner/twin-state.ts';
import {
  type Counted,
  count,
  countedOf,
  figure,
  figuresTable,
  find,
  firstTexts,
  violations,
} from './activity-figures.ts';

const HARM = [
  'noMappingWithStaleSequence',
  'noAccessAfterInvalidate',
  'noAccessAfterRevoke',
  'noGrantedPageFreedWhileMapped',
  'revokeNeverFails',
  'noCpuAccessToFreedFrame',
  'noWriteLost',
] as const;

export function explainSharing(state: TwinState): Explanation | null {
  const all = countedOf(state);
  const told = [
    ...kvmStory(state, find(all, 'kvm')),
    ...lenderStory(state, find(all, 'lender'), find(all, 'borrower')),
    ...copyStory(state, find(all, 'copier')),
    ...largeStory(state, find(all, 'large-lender'), find(all, 'hoarder')),
    ...deathStory(state),
  ];
  if (told.length === 0) return null;
  const harm = firstTexts(state, HARM);
  return {
    title:
      harm.length > 0
        ? 'How a page was reached that was not the guest’s any more'
        : 'Why nothing was reached that had gone',
    paragraphs: [...told, ...harm.slice(0, 3)],
    tables: [figuresTable(all)],
  };
}

const RETRY: Readonly<Record<TwinState['twin']['policies']['retry-check'], string>> = {
  'under-lock':
    'The backend looks, under the lock that the callback takes too, whether the sequence of its subscription has moved on since it ' +
    'looked the page up; if so it looks up again. After the callback has returned nobody can be about to lend what it took back.',
  hypervisor:
    'The backend names the window’s sequence number from before it looked the page up. Every revocation moves it on, and Xen refuses ' +
    'a lend that names an old one, under the p2m lock that the revocation holds too.',
  'before-lock':
    'The backend looks whether the sequence has moved on, and takes its lock after that. The callback can have the lock in between: ' +
    'it finds nothing to revoke, because nothing is lent yet, and the page it was called for is lent behind its back.',
  missing:
    'The backend does not look whether the page was taken away since it looked it up. The callback found nothing to revoke, because ' +
    'nothing was lent yet.',
};

function lenderStory({ twin }: TwinState, lender: Counted | undefined, borrower: Counted | undefined): string[] {
  if (!lender) return [];
  const { policies } = twin;
  const moves = figure(lender, 'moves');
  const use = borrower ? ` Meanwhile the guest made ${count(figure(borrower, 'accesses'))} accesses.` : '';
  if (policies.share === 'lend' && policies.mapping === 'notifier') {
    return [
      `The buffer was lent. Its kernel moved pages of it ${count(moves)} times, and each time a page that was lent was revoked first ` +
        `(${count(figure(lender, 'revoked'))} times). ${count(figure(lender, 'lookups'))} pages were looked up to answer faults, and ` +
        `${count(figure(lender, 'lent'))} lent.${use}`,
      RETRY[policies['retry-check']],
    ];
  }
  const kept = figure(lender, 'kept');
  const how = {
    grant: 'granted',
    foreign: 'mapped into the guest as foreign frames',
    lend: 'lent for good',
    'fixed-blob': 'lent for good',
  };
  const shown = `The buffer was ${how[policies.share]}${moves === 0 ? ', its pages pinned' : ''}. `;
  if (kept > 0) {
    return [
      `${shown}Its kernel moved pages of it ${count(moves)} times. ${count(kept)} times the callback found the page mapped by the guest: ` +
        'a granter can withdraw an entry only when nobody uses it, and a callback may not wait for another domain. It returned, as it has ' +
        `to, and the frame went to something else.${use}`,
    ];
  }
  return [
    `${shown}Its kernel tried ${count(lender.attempts)} times to move a page, and could ${moves === 0 ? 'not once' : `${count(moves)} times`}: ` +
      `somebody refers to every page of the buffer. That is the price: a GPU’s memory cannot be pinned at all, so the buffer had to be in RAM.${use}`,
  ];
}

function kvmStory({ twin }: TwinState, kvm: Counted | undefined): string[] {
  if (!kvm) return [];
  const checked = twin.policies['retry-check'] !== 'missing';
  return [
    'No domain shares anything here: the machine’s RAM is memory of a process, and its kernel moves and swaps that as any other ' +
      `(${count(figure(kvm, 'moves'))} times). The same callback empties the machine’s second-level table, and a fault fills it again, taken ` +
      `by the vCPU itself: ${count(figure(kvm, 'faults'))} faults for ${count(figure(kvm, 'accesses'))} accesses.`,
    checked
      ? `Under mmu_lock each fault looks whether anything was invalidated since it looked the page up; ${count(figure(kvm, 'retries'))} were told to retry.`
      : 'The fault path does not look whether the page was invalidated since it was looked up: the callback emptied the table before the entry was made.',
  ];
}

function copyStory({ twin }: TwinState, copier: Counted | undefined): string[] {
  if (!copier) return [];
  const copies = `The guest asked ${count(figure(copier, 'copies'))} times for a copy into a lent page.`;
  return twin.policies['lend.hypercalls'] === 'visible'
    ? [
        `${copies} Xen made ${count(figure(copier, 'copied'))} of them: it looked the gfn up and took a reference, like of any page. A revocation ` +
          'waits for vCPUs in guest mode and for nothing else; it cannot wait for a hypercall that the guest keeps going. The reference kept the ' +
          'frame allocated, not lent.',
      ]
    : [
        `${copies} All ${count(figure(copier, 'refused'))} were refused with GNTST_bad_page: to a hypercall there is a hole where memory is lent. ` +
          'So no call can hold on to such a frame, and a revocation has nobody to wait for.',
      ];
}

function largeStory(state: TwinState, lender: Counted | undefined, hoarder: Counted | undefined): string[] {
  if (!lender) return [];
  const taken = figure(lender, 'revocations');
  const failed = violations(state, 'revokeNeverFails');
  const pressure =
    `The guest moved ${count(figure(hoarder, 'moved'))} pages of its own to places that each take page tables, until Xen refused ` +
    `(${count(figure(hoarder, 'refused'))} times -ENOMEM): its pool was empty.`;
  if (failed > 0) {
    return [
      pressure,
      `${count(taken)} times the kernel took a page out of the 2M it had lent, and ${count(failed)} times it could not have it: the 2M mapping ` +
        'would have to be split, which takes a page table from the guest’s pool. The guest decides whether the revocation can succeed. A kernel ' +
        'in that place has no way out but to stop.',
    ];
  }
  const whole = figure(lender, 'revoked') > taken;
  return [
    pressure,
    whole
      ? `${count(taken)} times the kernel took a page back, and every time the whole 2M mapping went (${count(figure(lender, 'revoked'))} pages): one store, no table.`
      : `${count(taken)} times the kernel took a page back, without a failure: the tables for single pages were made when the place was opened, and opening may fail.`,
  ];
}

/** A guest that shared memory was destroyed in a step of the timeline. */
function deathStory({ twin, began }: TwinState): string[] {
  const died = twin.timeline.find(
    (step) => step.do === 'destroy' && [...began.keys()].some((key) => key.startsWith(`${step.guest}/`)),
  );
  if (died?.do !== 'destroy') return [];
  if (twin.policies['lend.frames'] === 'uncounted') {
    return [
      `\`${died.guest}\` was destroyed while its memory was lent. Without a reference in the lent page nothing kept the frames: they were freed with ` +
        `the rest of its memory, and its windows in the other domain were closed after that.`,
    ];
  }
  return [
    twin.policies.share === 'grant'
      ? `\`${died.guest}\` was destroyed while its pages were mapped. A mapping holds a reference of its frame, so these frames stayed, and the domain with them, until the other side had unmapped.`
      : `\`${died.guest}\` was destroyed while memory was lent. Its windows were closed and the CPUs flushed before anything of it was freed; a vCPU that waited for a page was let go.`,
  ];
}
