// The last line of a CI run: how many tests ran, from the runner's own JSON. Fails if none did, or any failed.
import { readFileSync } from 'node:fs';

const results = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const { numPassedTests: passed, numFailedTests: failed, numPendingTests: skipped } = results;
const broken = results.testResults.filter(
  ({ status, assertionResults }) => status === 'failed' && assertionResults.length === 0,
);
for (const { name, message } of broken) console.log(`${name}: ${message}`);
console.log(`${passed} passed, ${failed + broken.length} failed${skipped ? `, ${skipped} skipped` : ''}`);
process.exit(passed > 0 && failed + broken.length === 0 ? 0 : 1);
