// A driver that uses the registers of its device: stores into a memory window, spread over all of it, at the address that firmware
// left in the device's base address register. Without an address there is nothing to store to, and the driver cannot start.
import type { GuestCommand, GuestPciDevice } from './guest-spec.ts';
import type { TaskContext } from './task.ts';

type Wanted = Extract<GuestCommand, { do: 'bar-io' }>;

const TAG = 0xba5;

export function useWindow({ port, sink }: TaskContext, pci: readonly GuestPciDevice[], wanted: Wanted): void {
  const { id, device, bar, attempts } = wanted;
  const window = pci.find((candidate) => candidate.device === device)?.windows.find((each) => each.bar === bar);
  const gfn = window?.gfn ?? null;
  let answered = 0;
  if (window && gfn !== null) {
    const frames = Float64Array.from({ length: attempts }, (_, i) => gfn + Math.floor((i * window.pages) / attempts));
    answered = port.call({ op: 'store', frames: { frames }, tag: TAG }).mmio ?? 0;
  }
  sink.event('barIo', { id, device, bar, gfn, attempts, answered });
}
