// Steps of a timeline as a person reads them on the terminal and in reports. Owns the words only.
import type { Step } from '#formats/scenario';
import { formatSbdf } from '#model/frames/addresses';
import type { Intrusion } from '#model/guest/guest-spec';
import { assertionText, hexOf } from './assertion-text.ts';
import { gpuStepText } from './gpu-step-text.ts';

const INTRUSIONS: Readonly<Record<Intrusion, string>> = {
  populate: 'its balloon populates the reserved memory of',
  'give-up': 'its balloon gives up the reserved memory of',
  move: 'its kernel moves pages over the reserved memory of',
};

/** What the operator sees of a step. */
export function stepText(step: Step): string {
  const often = step.times > 1 ? ` ×${step.times}` : '';
  switch (step.do) {
    case 'create':
    case 'destroy':
    case 'reboot':
      return `${step.do} ${step.guest}${often}`;
    case 'set-target':
      return `${step.guest} may act on ${step.target}`;
    case 'begin': {
      const peers = step.peers.length === 0 ? '' : ` with ${step.peers.join(' and ')}`;
      return `begin ${step.run} in ${step.guest}${peers}${step.attempts > 0 ? ` ×${step.attempts}` : ''}`;
    }
    case 'finish':
      return `${step.keep ? 'wait for' : 'finish'} ${step.activities.map(({ guest, run }) => `${run} in ${guest}`).join(', ')}`;
    case 'mem-set':
    case 'mem-max':
      return `${step.do} ${step.guest} ${step.mb} MiB${often}`;
    case 'pci-assignable-add':
    case 'pci-assignable-remove':
      return `${step.do} ${formatSbdf(step.device)}${often}`;
    case 'pci-attach':
      return `${step.do} ${step.guest} ${formatSbdf(step.device)}${step.policy ? ` ${step.policy}` : ''}${often}`;
    case 'pci-detach':
      return `${step.do} ${step.guest} ${formatSbdf(step.device)}${often}`;
    case 'squeeze-swap':
      return `squeeze-swap ${step.mb} MiB between ${step.shrink} and ${step.grow}${often}`;
    case 'start':
      return `start ${step.workload.run} in ${step.guest}${often}`;
    case 'stop':
      return `stop ${step.workload} in ${step.guest}${often}`;
    case 'gpu-dma': {
      const where = typeof step.gfn === 'number' ? `gfn ${hexOf(step.gfn)} on` : step.gfn;
      return `gpu-dma ${formatSbdf(step.device)} ${where} ×${step.attempts}${often}`;
    }
    case 'reserved-io':
      return `${formatSbdf(step.device)} of ${step.guest} uses its reserved memory ×${step.attempts}${often}`;
    case 'enter-reserved':
      return `${step.guest}: ${INTRUSIONS[step.how]} ${formatSbdf(step.device)} ×${step.attempts}${often}`;
    case 'bar-io':
      return `${step.guest} uses BAR ${step.bar} of ${formatSbdf(step.device)} ×${step.attempts}${often}`;
    case 'device-model': {
      const what = 'page' in step.how ? `page ${hexOf(step.how.page)}` : `BAR ${step.how.bar}`;
      return `${step.guest}'s device model puts ${what} over the reserved memory of ${formatSbdf(step.device)}${often}`;
    }
    case 'vgpu':
    case 'bus-frames':
      return gpuStepText(step);
    case 'wait-for':
      return `wait until ${assertionText(step.condition).replaceAll('`', '')}`;
    case 'create-beside':
      return `create ${step.count} guests of ${step.memoryMb} MiB beside dom0`;
    case 'kill':
      return `kill ${step.what}${step.what === 'guest-agent' ? ` of ${step.guest}` : ''}`;
    case 'check-invariants':
      return 'check the invariants';
    default:
      return step satisfies never;
  }
}
