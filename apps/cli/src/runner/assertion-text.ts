// Assertions as a person reads them in reports and on the terminal. Owns the words only.
import type { Assertion, Bound } from '#formats/scenario';
import { formatSbdf, PAGE_SIZE } from '#model/frames/addresses';

export const hexOf = (n: number): string => `0x${n.toString(16)}`;

export function boundText({ atLeast, atMost, equals }: Bound): string {
  const parts = [
    equals === undefined ? null : `exactly ${equals}`,
    atLeast === undefined ? null : `at least ${atLeast}`,
    atMost === undefined ? null : `at most ${atMost}`,
  ];
  return parts.filter((part) => part !== null).join(' and ');
}

export const within = (n: number, { atLeast, atMost, equals }: Bound): boolean =>
  (equals === undefined || n === equals) &&
  (atLeast === undefined || n >= atLeast) &&
  (atMost === undefined || n <= atMost);

const times = (n: number): string => (n === 1 ? 'at least once' : `at least ${n} times`);

export function assertionText(a: Assertion): string {
  switch (a.check) {
    case 'violated':
      return `\`${a.invariant}\` is violated ${times(a.atLeast)}`;
    case 'never':
      return a.invariant === '*' ? 'no invariant is violated' : `\`${a.invariant}\` is never violated`;
    case 'fault': {
      const parts = [
        `DMA ${a.kind ?? 'access'}`,
        a.device === null ? null : `by \`${formatSbdf(a.device)}\``,
        a.addr === null ? null : `at \`${(Math.floor(a.addr / PAGE_SIZE) * PAGE_SIZE).toString(16)}\``,
        'faults',
        a.reason === null ? null : `with reason ${a.reason.toString(16).padStart(2, '0')}`,
        times(a.atLeast),
      ];
      return parts.filter((part) => part !== null).join(' ');
    }
    case 'noFault':
      return a.device === null ? 'no DMA faults' : `no DMA of \`${formatSbdf(a.device)}\` faults`;
    case 'guest':
      return `${a.guest} is ${a.is}`;
    case 'dmesg':
      return `Xen's console has \`/${a.regex}/\` ${times(a.atLeast)}`;
    case 'toolstack-error':
      return `xl refuses with \`/${a.regex}/\` ${times(a.atLeast)}`;
    case 'errno':
      return `${a.of} answers -${a.errno} ${times(a.atLeast)}`;
    case 'counter':
      return `counter \`${a.counter}\` is ${boundText(a)}`;
    case 'e820':
      return `${a.guest}'s E820 has the ${a.rows.length} rows`;
    case 'pod': {
      const parts = [
        a.entries === null ? null : `entries ${boundText(a.entries)}`,
        a.cache === null ? null : `cache ${boundText(a.cache)}`,
      ];
      return `${a.guest}'s PoD: ${parts.filter((part) => part !== null).join(', ')}`;
    }
    case 'entry': {
      const parts = [a.p2m === null ? null : `p2m ${a.p2m}`, a.iommu === null ? null : `IOMMU ${a.iommu}`];
      return `${a.guest}'s gfn \`${hexOf(a.gfn)}\`: ${parts.filter((part) => part !== null).join(', ')}`;
    }
    case 'greater': {
      const factor = a.factor === 1 ? '' : `${a.factor} times `;
      return `counter \`${a.counter}\` is more than ${factor}that of twin ${a.thanTwin}`;
    }
    default:
      return a satisfies never;
  }
}
