// Types of p2m entries by Xen's names (without the p2m_), from the model's own. Owns that table only.
import { p2mTypeNames } from '#model/p2m/type-names';
import { p2mType } from '#model/p2m/types';

const xenNames = new Map<string, string>(
  Object.entries(p2mType).map(([name, number]) => [name, p2mTypeNames[number] ?? name]),
);

/** `populateOnDemand` → `populate_on_demand`; a name that is no type stays as it is. */
export const xenP2mName = (modelName: string): string => xenNames.get(modelName) ?? modelName;
