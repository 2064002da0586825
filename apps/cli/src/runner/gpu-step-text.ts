// The steps about shared GPUs as a person reads them. Owns the words only.

import type { Step } from '#formats/scenario';
import { formatSbdf } from '#model/frames/addresses';
import type { VgpuAct } from '#model/guest/shared-gpu/spec';

const ACTS: Readonly<Record<VgpuAct | 'attach' | 'detach', string>> = {
  attach: 'is given a virtual GPU on',
  detach: 'loses its virtual GPU on',
  render: 'lets it write pages and looks at them, on',
  balloon: 'gives a page up and takes one back under the hands of',
  remap: 'points its table at other pages, on',
  run: 'renders from now on, on',
  halt: 'ends its rendering on',
};

export function gpuStepText(step: Extract<Step, { do: 'vgpu' | 'bus-frames' }>): string {
  const device = formatSbdf(step.device);
  const often = step.attempts > 1 ? ` ×${step.attempts}` : '';
  if (step.do === 'vgpu') return `${step.guest} ${ACTS[step.act]} ${device}${often}`;
  const what = step.act === 'reuse' ? 'maps bus frames anew' : 'gives up pages and unmaps their bus frames';
  const how = step.card === 'running' ? 'under the DMA of' : 'with DMA before and after, but not meanwhile, of';
  return `dom0 ${what} ${how} ${device}${often}`;
}
