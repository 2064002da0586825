// What must hold in a kernel's memory management while none of its tasks runs. The event invariants beside them (events.ts) are
// judged where the harm happens.
import type { Violation } from '../../host.ts';
import type { Finding } from '../../invariants/findings.ts';
import type { FrameIndex } from './frame-pools.ts';
import type { Mm } from './mm.ts';
import { hasFrame, pte, pteFrame } from './page-table.ts';
import { isOdd, sequenceText } from './sequence.ts';

interface MmInvariant {
  readonly name: string;
  readonly source: string;
  check(mm: Mm): readonly Finding[];
}

function sequenceIsOddOnlyWhileInvalidating(mm: Mm): Finding[] {
  const { active, current } = mm.notifiers;
  if (active === 0 && !isOdd(current)) return [];
  const text = `at rest the sequence is ${sequenceText(current)} and ${active} invalidations are under way`;
  return [{ text, evidence: { active } }];
}

function secondaryMirrorsPageTable(mm: Mm): Finding[] {
  const found: Finding[] = [];
  for (const table of mm.secondaries) {
    for (const { page, frame, writable } of table.list()) {
      const entry = page < 0 ? 0 : mm.pageTable.peek(page);
      // Unmapped while it was pinned: it lives on, and the page may be other memory by now.
      const pinnedOrphan = mm.frames.pins(frame) > 0 && mm.frames.pageOf(frame) < 0;
      const same = hasFrame(entry) && pteFrame(entry) === frame && (!writable || (entry & pte.write) !== 0);
      if (same || pinnedOrphan) continue;
      const text = `${table.shape.name} shows page ${page} as frame ${frame}${writable ? ', writable' : ''}; the page table does not`;
      found.push({ text, evidence: { page, frame } });
    }
  }
  return found;
}

function pageTableFramesAreItsOwn(mm: Mm): Finding[] {
  const found: Finding[] = [];
  for (let page = 0; page < mm.pageTable.pages; page++) {
    const entry = mm.pageTable.peek(page);
    if (!hasFrame(entry)) continue;
    const frame = pteFrame(entry);
    if (mm.frames.pageOf(frame) === page && mm.frames.references(frame) > 0) continue;
    found.push({ text: `page ${page} names frame ${frame}, which is not its own`, evidence: { page, frame } });
  }
  return found;
}

/** A frame in use has the references of the page table and of those that took one, and no other. */
function referencesAreAccountedFor(mm: Mm): Finding[] {
  const found: Finding[] = [];
  for (let i = 0; i < mm.frames.count; i++) {
    const frame = i as FrameIndex; // every index of the pools
    const { frames } = mm;
    const mapped = frames.pageOf(frame) >= 0 ? 1 : 0;
    const taken = mm.frames.referencesTaken(frame);
    const expected = frames.isFree(frame) ? 0 : mapped + taken;
    if (frames.references(frame) === expected && (frames.isFree(frame) || expected > 0)) continue;
    const text = `frame ${frame} has ${frames.references(frame)} references, ${expected} are known`;
    found.push({ text, evidence: { frame, expected } });
  }
  return found;
}

function pinnedFrameStaysItsPages(mm: Mm): Finding[] {
  const found: Finding[] = [];
  for (const table of mm.secondaries) {
    for (const { page, frame } of table.list()) {
      const shown = mm.frames.pageOf(frame);
      if (mm.frames.pins(frame) === 0 || shown < 0 || shown === page) continue;
      const text = `frame ${frame} was pinned as page ${page} and is page ${shown} now`;
      found.push({ text, evidence: { page, frame } });
    }
  }
  return found;
}

function cleanFilePageEqualsFile(mm: Mm): Finding[] {
  const found: Finding[] = [];
  for (const { kind, start, end } of mm.vmas.list()) {
    if (kind !== 'file') continue;
    for (let page = start; page < end; page++) {
      const entry = mm.pageTable.peek(page);
      if (!hasFrame(entry) || (entry & pte.dirty) !== 0) continue;
      const tag = mm.frames.tag(pteFrame(entry));
      const stored = mm.pageTable.stored(page);
      if (tag === stored) continue;
      found.push({
        text: `file page ${page} is clean, holds ${tag}, and its file ${stored}`,
        evidence: { page, tag, stored },
      });
    }
  }
  return found;
}

export const mmInvariants: readonly MmInvariant[] = [
  {
    name: 'sequenceIsOddOnlyWhileInvalidating',
    source: 'Linux guest fact sheet, invariant 5',
    check: sequenceIsOddOnlyWhileInvalidating,
  },
  {
    name: 'secondaryMirrorsPageTable',
    source: 'Linux guest fact sheet, invariant 3',
    check: secondaryMirrorsPageTable,
  },
  { name: 'pageTableFramesAreItsOwn', source: 'Linux guest fact sheet, race R1', check: pageTableFramesAreItsOwn },
  { name: 'referencesAreAccountedFor', source: 'Linux guest fact sheet 3', check: referencesAreAccountedFor },
  { name: 'pinnedFrameStaysItsPages', source: 'Linux guest fact sheet, invariant 7', check: pinnedFrameStaysItsPages },
  { name: 'cleanFilePageEqualsFile', source: 'lending fact sheet 1 (DAX)', check: cleanFilePageEqualsFile },
];

/** Everything that is wrong with a kernel at rest; empty = all hold. */
export function checkMm(mm: Mm): Violation[] {
  return mmInvariants.flatMap(({ name, check }) => check(mm).map((finding) => ({ invariant: name, ...finding })));
}
