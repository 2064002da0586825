// Where dom0's bus space has room that no RAM is in: above the top of host RAM, since IOMMUs address more than that (Malcolm
// Crossley, xen-devel, December 2014). First the bus frames that PV-IOMMU manages, then the gfns that dom0 uses for foreign maps.
// Pure arithmetic on the host's description; who maps what there is pv-iommu.ts and gpu/.
import type { HostConfig } from '../host-config.ts';

const GIB_FRAMES = 2 ** 18;
/** gfns per mediator: frames it shadows in design C, and guest tables it reads. */
const WINDOW_FRAMES = 2 ** 17;

const wholeGib = (frames: number): number => Math.ceil(frames / GIB_FRAMES) * GIB_FRAMES;

/** First bus frame of PV-IOMMU. */
export const busBase = (config: HostConfig): number => wholeGib(config.frames);

/** Bus frames of PV-IOMMU; 0: it is off. */
export const busCount = (config: HostConfig): number => config.busFrames ?? 0;

/** Is any of these one that dom0 manages itself? Its p2m must then stay away (dfn = gfn). */
export const touchesBusFrames = (config: HostConfig, first: number, pages: number): boolean =>
  busCount(config) > 0 && first < busBase(config) + busCount(config) && first + pages > busBase(config);

/** gfns of dom0 that mediator number `index` maps other domains' frames at. */
export function mediatorWindow(config: HostConfig, index: number): { readonly start: number; readonly count: number } {
  return { start: busBase(config) + wholeGib(busCount(config)) + index * WINDOW_FRAMES, count: WINDOW_FRAMES };
}
