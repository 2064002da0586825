// Grants in the memory of a process: what munmap waited for and what waited for it, and what the frontend found when it wanted its pages
// back. Told wherever a backend maps grants by gntdev.
import type { Explanation, ReportTable } from '#report/verdict';
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

export function explainGntdev(state: TwinState): Explanation | null {
  const all = countedOf(state);
  const process = find(all, 'gntdev');
  if (!process) return null;
  const frontend = find(all, 'frontend');
  const cycles = violations(state, 'noWaitCycle');
  const early = figure(frontend, 'early');
  return {
    title:
      cycles > 0
        ? 'Who waits for whom'
        : early > 0
          ? 'Why a page was written that was not the backend’s any more'
          : 'Why nobody waits for ever, and no page is used twice',
    paragraphs: [
      `A process in dom0 mapped grants of the guest ${count(figure(process, 'uses'))} times, had a device work on them and unmapped them.`,
      ...(cycles > 0 ? circle(state, figure(process, 'hung')) : [returned(state, process)]),
      ...frontendStory(state, frontend),
    ],
    tables: [...edges(state), figuresTable(all)],
  };
}

function circle({ twin }: TwinState, hung: number): string[] {
  const { policies } = twin;
  const why =
    policies['gntdev.unmap'] === 'synchronous'
      ? 'munmap calls the subscribers one after the other. gntdev comes first and sleeps until nobody else refers to the pages; the GPU’s driver, ' +
        'which does, lets go when it is called, by the same munmap.'
      : 'gntdev only takes note. The GPU’s driver holds its lock and sleeps until the fence of its job is signalled; the GPU needs a page for that ' +
        'job, and asks the driver for it.';
  return [`${count(hung)} times it did not come back: ${why} Linux says so after two minutes, and the process stays.`];
}

function returned({ twin }: TwinState, process: Counted): string {
  const { policies } = twin;
  if (policies['gntdev.unmap'] === 'synchronous') {
    return 'munmap came back when the device had let go of the pages: gntdev waited in its callback, and whoever held them did not wait for munmap.';
  }
  const work =
    figure(process, 'jobs') > 0 ? 'The GPU’s driver took its entries away and let go.' : 'The disk was still writing.';
  return `munmap came back at once: gntdev marked the pages, and its worker unmapped them when nobody referred to them any more. ${work}`;
}

function frontendStory({ twin }: TwinState, frontend: Counted | undefined): string[] {
  if (!frontend) return [];
  const [early, deferred] = [figure(frontend, 'early'), figure(frontend, 'deferred')];
  if (early > 0 && twin.policies['grant.busy'] === 'ignore') {
    return [
      `The frontend withdrew its grants when it heard that they were unmapped. ${count(early)} times Xen said that the entry was in use, and the ` +
        `frontend used the page for something else all the same; ${count(figure(frontend, 'overwritten'))} of these pages were then found overwritten, by the device.`,
    ];
  }
  if (deferred === 0) return ['Whenever the frontend withdrew a grant it was free.'];
  return [
    `${count(deferred)} times the frontend found a grant still in use when it was told that the pages were unmapped. It left the page alone and asked ` +
      'again until the entry was free.',
  ];
}

/** The circle that was found first, edge by edge. */
function edges(state: TwinState): ReportTable[] {
  const [text] = firstTexts(state, ['noWaitCycle']);
  const said = text?.split('edges: ')[1];
  if (!said) return [];
  return [
    {
      caption: 'The first circle, edge by edge',
      head: ['', 'edge'],
      rows: said.split('; ').map((edge, i) => [`${i + 1}`, edge.replace(/\.$/, '')]),
    },
  ];
}
