import { describe, expect, it } from 'vitest';
import { sbdf } from '#model/frames/addresses';
import { idsOf, kernelOptions, withImpliedDrivers, workloadId } from './guest-kernel-options.ts';

const gpu = sbdf(0, 0, 2, 0);

describe('what a guest’s kernel is told', () => {
  it('boot-touch and balloon are how it boots, the rest are tasks', () => {
    const options = kernelOptions(
      [{ run: 'boot-touch', mb: 512 }, { run: 'balloon' }, { run: 'memory', mb: 64, rate: 2, verify: true }],
      { gpuBursts: new Map() },
    );
    expect(options.bootTouchMb).toBe(512);
    expect(options.balloon).toEqual({ enabled: true });
    expect(options.workloads).toEqual([
      { id: 'memory', kind: 'memory', mb: 64, framesPerSecond: 512, verify: true, onCorruption: 'panic' },
    ]);
  });

  it('a display driver survives every hang but the last that the timeline asks for', () => {
    const [driver] = withImpliedDrivers([], [gpu]);
    const { workloads } = kernelOptions(driver ? [driver] : [], { gpuBursts: new Map([[gpu, 25]]) });
    expect(workloads?.[0]).toMatchObject({ kind: 'gpu', device: gpu, onFault: 'crash', resetsBeforeCrash: 24 });
  });

  it('a driver that the workload names is not loaded twice', () => {
    const named = { run: 'gpu', device: gpu, bufferGfn: 0x100, bufferFrames: 4, bursts: 0, rate: 'max' } as const;
    expect(withImpliedDrivers([named], [gpu, gpu])).toEqual([named]);
  });

  it('an activity is a task of the boot, named as it is written', () => {
    const lender = { run: 'lender', window: 0x100000, pages: 4 } as const;
    const { workloads } = kernelOptions([{ run: 'boot-touch', mb: 4 }, lender], { gpuBursts: new Map() });
    expect(workloads).toEqual([{ id: 'lender', kind: 'activity', spec: lender }]);
  });

  it('a workload is stopped by the id it was started with', () => {
    const nic = { run: 'nic', device: sbdf(0, 3, 0, 0), ringFrames: 8, rate: 'max' } as const;
    expect(workloadId(nic)).toBe('nic-0000:03:00.0');
    expect(idsOf([nic, { run: 'balloon' }], 'nic')).toEqual(['nic-0000:03:00.0']);
  });
});
