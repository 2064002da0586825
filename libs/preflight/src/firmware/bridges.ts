// Which bridge leads to which bus, from a listing of the devices: the way up from a device. A damaged listing may name a loop; every
// walk ends.
import type { LspciDevice } from '#formats/lspci';
import { parseSbdf, type Sbdf } from '#model/frames/addresses';

const SEGMENT = 65536;
const BUSES = 256;

const busOf = (device: Sbdf): number => Math.floor(device / BUSES);

export class Bridges {
  /** By segment and bus as one number. */
  readonly #above = new Map<number, Sbdf>();

  constructor(devices: readonly LspciDevice[]) {
    for (const { bdf, bus } of devices) {
      const bridge = parseSbdf(bdf);
      if (bridge === null || bus === null) continue;
      const secondary = Number.parseInt(bus.secondary, 16);
      // A bridge that is not set up says bus 0; no bridge leads to the bus it stands on.
      const below = Math.floor(bridge / SEGMENT) * BUSES + secondary;
      if (secondary !== 0 && below !== busOf(bridge) && !this.#above.has(below)) this.#above.set(below, bridge);
    }
  }

  /** The bridges above a device, nearest first. */
  pathUp(device: Sbdf): Sbdf[] {
    const path: Sbdf[] = [];
    for (let at: Sbdf | undefined = this.#above.get(busOf(device)); at !== undefined && !path.includes(at); ) {
      path.push(at);
      at = this.#above.get(busOf(at));
    }
    return path;
  }

  topmost(device: Sbdf): Sbdf | null {
    return this.pathUp(device).at(-1) ?? null;
  }

  /** Whether `device` is `bridge` or lies below it. */
  isBelow(device: Sbdf, bridge: Sbdf): boolean {
    return device === bridge || this.pathUp(device).includes(bridge);
  }
}
