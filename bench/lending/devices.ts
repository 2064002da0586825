// What a device of the borrower sees of lent memory, with I/O tables of its own and with the CPU's; and what each costs.
import { dmaCpu, Host } from '#model/host';
import { DmaThread } from '#model/iommu/dma';
import { serviceFaults } from '#model/iommu/faults';
import { hypercall } from '../../libs/model/test-support/hypercall-fixture.ts';
import type { Cost, Meter } from './meter.ts';
import { OWN, Stage, WINDOW } from './stage.ts';

export interface DeviceView {
  readonly tables: 'separate' | 'shared';
  /** A 64-page range taken away at once. */
  readonly revoke: Cost;
  readonly iotlbFlushes: number;
  /** Populating 64 pages of the guest's RAM. */
  readonly populate: Cost;
  /** I/O table pages of their own. */
  readonly ioTables: number;
  readonly whileLent: string;
  readonly afterRevoke: string;
  readonly faultLine: string;
  readonly guestRuns: boolean;
}

const NEW_RAM = 0x40_000;

export function deviceView(meter: Meter, tables: 'separate' | 'shared'): DeviceView {
  const stage = new Stage({ iommu: tables });
  const { bed, borrower } = stage;
  const { domid } = borrower;
  const sbdf = bed.h.config.devices[0]?.sbdf ?? 0;
  const { rc } = hypercall(bed, bed.dom0, { op: 'assign_device', domid, sbdf, flags: 0 });
  if (rc !== 0) throw new Error(`assign_device: ${rc}`);
  const dma = new DmaThread(new Host(bed.h.shared, dmaCpu(bed.h.config, 0), bed.h.platform), 0);
  const write = (dfn: number): string => {
    const reason = dma.transaction(sbdf, dfn, 'w', 5);
    return reason === 0 ? 'reaches the frame' : `faults (reason 0x${reason.toString(16).padStart(2, '0')})`;
  };
  const ioTables = bed.h.counters.read('iommu.ptAlloc');
  const extents = { start: NEW_RAM, count: 64 };
  const populate = meter.measure(() => {
    hypercall(bed, bed.dom0, { op: 'populate_physmap', domid, order: 0, memFlags: 0, extents });
  });
  if (write(OWN) !== 'reaches the frame') throw new Error('the device does not reach its guest’s own RAM');
  stage.lend(0, 0, 64);
  const whileLent = write(WINDOW[0]);
  const flushes = bed.h.counters.read('iommu.flushPage') + bed.h.counters.read('iommu.flushDomain');
  const revoke = meter.measure(() => stage.revoke(0, 0, 64));
  const iotlbFlushes = bed.h.counters.read('iommu.flushPage') + bed.h.counters.read('iommu.flushDomain') - flushes;
  const afterRevoke = write(WINDOW[0] + 1);
  serviceFaults(bed.h, 0);
  const faultLine = bed.log.lines.find((line) => line.includes('fault addr')) ?? 'none was printed';
  return {
    tables,
    revoke,
    iotlbFlushes,
    populate,
    ioTables,
    whileLent,
    afterRevoke,
    faultLine,
    guestRuns: !borrower.crashed,
  };
}
