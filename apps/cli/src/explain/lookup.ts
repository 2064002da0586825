// What was found out about a gfn, and acted upon later: told of the scenarios in which one vCPU changes what another one's call has just
// looked up. Owns the story; the counting is the activities', the judging Xen's.
import type { Explanation } from '#report/verdict';
import type { TwinState } from '../runner/twin-state.ts';
import { type Counted, count, countedOf, figure, figuresTable, find, firstTexts } from './activity-figures.ts';

const HARM = ['translationHeldWhileUsed', 'm2pIsInverseOfP2m'] as const;

export function explainLookup(state: TwinState): Explanation | null {
  const all = countedOf(state);
  const told = [
    ...moverStory(find(all, 'mover')),
    ...translatorStory(find(all, 'translator')),
    ...barStory(find(all, 'bar-placer')),
  ];
  if (told.length === 0) return null;
  const harm = firstTexts(state, HARM);
  const stale = state.twin.policies['p2m.lookup'] === 'stale';
  return {
    title: harm.length > 0 ? 'How a lookup outlived what it had found' : 'Why no lookup outlived what it had found',
    paragraphs: [
      ...told,
      stale
        ? 'Neither the p2m lock nor a reference was held between the lookup and its use (`p2m.lookup: stale`), so that the other vCPU could change the entry in between.'
        : 'The lookup and what rests on it are under one hold of the p2m lock, or a reference keeps the frame: the other vCPU comes before both, or after both.',
      ...harm,
    ],
    tables: [figuresTable(all)],
  };
}

const moverStory = (mover: Counted | undefined): string[] =>
  mover
    ? [
        `Two vCPUs asked for the one shared_info page at ${count(figure(mover, 'moves') + figure(mover, 'refused'))} places, each at places of its own; ${count(figure(mover, 'moves'))} calls moved it.`,
      ]
    : [];

const translatorStory = (translator: Counted | undefined): string[] =>
  translator
    ? [
        `One vCPU had Xen copy into ${count(figure(translator, 'copies'))} pages by their gfns, ${count(figure(translator, 'copied'))} of which were there; the other one changed what is behind these gfns ${count(figure(translator, 'changes'))} times meanwhile.`,
      ]
    : [];

const barStory = (placer: Counted | undefined): string[] =>
  placer
    ? [
        `The registers were mapped ${count(figure(placer, 'placed'))} times and taken away ${count(figure(placer, 'taken'))} times.`,
      ]
    : [];
