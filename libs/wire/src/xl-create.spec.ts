import { describe, expect, it } from 'vitest';
import { defaultBalloon, type GuestSpec, type WorkloadSpec } from '#model/guest/guest-spec';
import { guestSpecSchema } from './guest-messages.ts';
import { decodeCreate, encodeCreate } from './xl-create.ts';

const nic: WorkloadSpec = {
  id: 'nic',
  kind: 'nic',
  device: 8,
  ringFrames: 64,
  framesPerSecond: 0,
  passes: 2,
  verifyEvery: 4,
};

describe('the arguments of xl create', () => {
  it('carry text, settings on top of it, and what the kernel is to do', () => {
    const args = encodeCreate({
      source: 'a.cfg',
      text: 'memory=64',
      kernel: { workloads: [nic] },
      settings: ['maxmem=128'],
    });
    const { source, text, kernel } = decodeCreate(args);
    expect({ source, text }).toEqual({ source: 'a.cfg', text: 'memory=64\nmaxmem=128\n' });
    expect(kernel).toMatchObject({ bootTouchMb: 64, allocation: 'scattered', workloads: [nic], balloon: {} });
  });

  it('are refused with a sentence when they are not that', () => {
    expect(() => decodeCreate(['a.cfg'])).toThrow('create needs the name and the text of an xl.cfg');
    expect(() => decodeCreate(['a.cfg', '', '{'])).toThrow('kernel options as JSON');
    expect(() => decodeCreate(['a.cfg', '', '{"bootTouchMb":-1}'])).toThrow(/kernel options: bootTouchMb: /);
    expect(() => decodeCreate(['a.cfg', '', '{"workloads":[{"kind":"mine"}]}'])).toThrow(/kernel options: workloads/);
  });
});

describe('the specification of a guest', () => {
  const spec: GuestSpec = {
    domid: 3,
    name: 'web',
    control: false,
    vcpus: 2,
    seed: 3,
    e820: [{ addr: 0, size: 0xa0000, type: 1 }],
    targetKb: 65_536,
    staticMaxKb: 65_536,
    bootTouchMb: 16,
    allocation: 'scattered',
    balloon: defaultBalloon,
    foreignMapPlace: 'ballooned-hole',
    workloads: [nic],
    timeScale: 10,
  };

  it('travels as JSON and comes out the same', () => {
    expect(guestSpecSchema.parse(JSON.parse(JSON.stringify(spec)))).toEqual(spec);
  });

  it('is refused when a part of it is missing or out of range', () => {
    const { seed: _, ...without } = spec;
    expect(guestSpecSchema.safeParse(without).success).toBe(false);
    expect(guestSpecSchema.safeParse({ ...spec, vcpus: 0 }).success).toBe(false);
    expect(guestSpecSchema.safeParse({ ...spec, timeScale: 0 }).success).toBe(false);
  });
});
