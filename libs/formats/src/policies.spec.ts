import { expect, it } from 'vitest';
import { defaultPolicies } from '#model/host-config';
import { knobNames, knobs, modelPolicies, policyMistake, resolvePolicies } from './policies.ts';

it('defaults every knob to its first value, which is what the model takes for today’s behaviour', () => {
  const policies = resolvePolicies({});
  expect(Object.entries(policies)).toEqual(knobNames.map((k) => [k, knobs[k].values[0]]));
  expect(modelPolicies(policies)).toEqual(defaultPolicies);
});

it('takes the values given and leaves the rest', () => {
  expect(resolvePolicies({ shatter: 'naive', 'iotlb.flush': 'lost' })).toMatchObject({
    shatter: 'naive',
    'iotlb.flush': 'lost',
    'cpu.flush': 'deferred-to-unlock',
  });
});

it('says what is wrong with an unknown knob, a wrong value and a boolean', () => {
  expect(policyMistake('shater', 'naive')?.message).toBe('unknown policy `shater` (did you mean `shatter`?)');
  expect(policyMistake('shatter', 'naiv')?.message).toBe('`shatter` cannot be "naiv" (did you mean `naive`?)');
  expect(policyMistake('iommu.superpages', false)?.remedy).toBe('write off');
  expect(policyMistake('constructor', 'x')?.message).toMatch(/^unknown policy/);
});
