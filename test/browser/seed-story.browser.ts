// What a person sees and clicks in the seed story, in a real Chromium before a real host: a guest is created, gives memory back and
// is rebooted below its maximum; its GPU writes where no CPU ever did; the page shows the fault and says why. Screenshots of every
// view go to docs/images/ when HOSTLOOM_SCREENSHOTS=1.
import { mkdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chromiumPath } from '../support/chromium.ts';
import { type Dashboard, endHost, startDashboard } from '../support/dashboard.ts';
import { Sandbox } from '../support/hostloom.ts';

const STEP_MS = 45_000;
const IMAGES = resolve('docs/images');
const keep = process.env.HOSTLOOM_SCREENSHOTS === '1';
const guestConfig = (name: string): string => readFileSync(resolve(`scenarios/guests/${name}.cfg`), 'utf8');

describe.skipIf(chromiumPath === null)('the page', () => {
  const sandbox = new Sandbox();
  const errors: string[] = [];
  let host: Dashboard;
  let browser: Browser;
  let page: Page;

  beforeAll(async () => {
    host = await startDashboard(sandbox, 'scenarios/pod-gpu-dma.yaml');
    browser = await chromium.launch({ executablePath: chromiumPath ?? '' });
    const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: 'dark' });
    page = await context.newPage();
    page.setDefaultTimeout(STEP_MS);
    page.on('pageerror', ({ message }) => errors.push(message));
    page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
    if (keep) mkdirSync(IMAGES, { recursive: true });
  });
  afterAll(async () => {
    await browser?.close();
    await endHost(host);
    sandbox.dispose();
  });

  const shot = async (name: string): Promise<void> => {
    await page.waitForTimeout(1200); // a moment's figures belong on a picture
    if (keep) await page.screenshot({ path: `${IMAGES}/${name}.png` });
  };
  const text = (selector: string): Promise<string> => page.locator(selector).first().innerText();

  async function create(config: string): Promise<void> {
    await page.keyboard.press('c');
    await page.getByLabel('xl.cfg').fill(config);
    await page.getByRole('button', { name: 'Create', exact: true }).click();
    await page.getByRole('dialog').waitFor({ state: 'detached' });
  }

  async function choose(guest: string, action: string): Promise<void> {
    await page.getByLabel(`Actions of ${guest}`).click();
    await page.getByRole('button', { name: action, exact: true }).click();
    await page.locator('.menu pre').waitFor();
    expect(await page.locator('.menu pre').getAttribute('class')).toContain('good');
    await page.keyboard.press('Escape');
  }

  it('opens live, takes the token out of the address, and shows the host with dom0', async () => {
    const began = performance.now();
    await page.goto(host.page);
    await page.locator('[data-state=live]').waitFor();
    expect(performance.now() - began).toBeLessThan(STEP_MS);
    expect(page.url()).not.toContain('token');
    await page.locator('button[data-domid="0"]', { hasText: 'Domain-0' }).waitFor();
    await page.locator('canvas[data-cells]:not([data-cells="0"])').waitFor();
  });

  it('creates a guest from an xl.cfg that is pasted, and sees it', async () => {
    await create(guestConfig('win7-gpu'));
    await create(guestConfig('win7-office'));
    await page.locator('button[data-domid="1"]', { hasText: 'win7-gpu' }).waitFor();
    await page.locator('button[data-domid="2"]', { hasText: 'win7-office' }).waitFor();
    await page.getByText('its kernel runs').first().waitFor();
    await shot('dashboard-host-map');
    const box = await page.locator('canvas').first().boundingBox();
    await page.mouse.move((box?.x ?? 0) + 40, (box?.y ?? 0) + 160);
    await page.locator('.tip', { hasText: 'references' }).waitFor();
  });

  it('shows its memory map, and p2m and IOMMU in agreement', async () => {
    await page.locator('button[data-domid="1"]').click();
    await page.getByText('they agree').waitFor();
    expect(await text('.view')).toContain('IOMMU has its own tables');
    expect(await page.locator('.block.ram').count()).toBeGreaterThanOrEqual(2);
    await shot('dashboard-guest');
    await page.mouse.wheel(0, 0);
    await page
      .locator('canvas')
      .first()
      .hover({ position: { x: 30, y: 60 } });
    await page.mouse.wheel(0, -600);
    await expect.poll(() => page.url()).toContain('from=');
  });

  it('after a reboot below the maximum shows RAM without frames, where a device faults', async () => {
    await page.getByLabel('Actions of win7-gpu').click();
    await page.getByLabel('target').fill('2944');
    await page.getByRole('button', { name: 'mem-set' }).click();
    await page.locator('.menu pre.good').waitFor();
    await page.keyboard.press('Escape');
    await page.getByLabel('Actions of win7-gpu').click();
    await page.getByRole('button', { name: 'Reboot', exact: true }).click();
    await page.locator('button[data-domid="3"]', { hasText: 'win7-gpu' }).click();
    await page.getByText(/a device faults on/).waitFor();
    await page.getByText('as its kernel sees it').waitFor();
    await shot('dashboard-guest-pod');
  });

  it('a write of the GPU to a page that no CPU touched faults, and Why names the cause and the knob', async () => {
    await page.keyboard.press('4');
    await page.getByRole('button', { name: 'untouched' }).click();
    const fault = page.locator('.faults button.fault').first();
    await fault.waitFor();
    expect(await fault.innerText()).toMatch(
      /\[VT-D\]DMAR:\[DMA Write\] Request device \[0000:00:02\.0\] fault addr [0-9a-f]+/,
    );
    await fault.click();
    await page.getByText('pod-with-passthrough: populate-first').waitFor();
    const chain = await text('section .lower > .card:last-child');
    for (const link of [
      'Context entry',
      'IOTLB',
      'IOMMU walk',
      'nothing',
      'populate_on_demand',
      'populate_physmap by d0',
    ]) {
      expect(chain).toContain(link);
    }
    expect(page.url()).toMatch(/#\/dma\?device=10&frame=[0-9a-f]+/);
    await shot('dashboard-dma-why');
    const deep = page.url();
    await page.goto('about:blank');
    await page.goto(deep);
    await page.getByText('pod-with-passthrough: populate-first').waitFor();
  });

  it('shows who holds the locks while guests work, and the queues and processes', async () => {
    for (const guest of ['win7-gpu', 'win7-office']) await choose(guest, 'Start');
    await page.keyboard.press('3');
    await page.locator('.legend', { hasText: 'holds p2m' }).waitFor();
    await page.locator('td', { hasText: 'p2m(d3)' }).first().waitFor();
    await page.waitForTimeout(4000); // a few seconds of lanes
    await shot('dashboard-locks');
    await page.keyboard.press('5');
    await page.locator('tr', { hasText: 'hypervisor' }).getByText('alive').waitFor();
    await page.locator('tr', { hasText: 'd3v0' }).waitFor();
    await shot('dashboard-queues');
  });

  it('filters the log, pauses, and turns light', async () => {
    await page.keyboard.press('/');
    await page.keyboard.type('fault addr');
    await expect.poll(() => page.locator('.line').count()).toBeGreaterThan(0);
    expect((await page.locator('.line').allInnerTexts()).every((line) => line.includes('fault addr'))).toBe(true);
    await page.getByPlaceholder(/Filter/).fill('');
    await page.locator('main').click({ position: { x: 5, y: 60 } });
    await page.keyboard.press(' ');
    await page.locator('[data-state=paused]').waitFor();
    await page.keyboard.press(' ');
    await page.locator('[data-state=live]').waitFor();
    await page.keyboard.press('t');
    await page.keyboard.press('1');
    await shot('dashboard-light');
    await page.keyboard.press('t');
  });

  it('says so when the dashboard dies, and is live again when it was started anew, with the whole log', async () => {
    await page.keyboard.press('5');
    const process = page.locator('tr', { hasText: /^dashboard/ });
    const pid = Number(await process.locator('td').nth(1).innerText());
    const lines = await page.locator('.line').count();
    globalThis.process.kill(pid, 'SIGKILL');
    await page.locator('[data-state^=disconnected]').waitFor();
    await page.locator('[data-state=live]').waitFor();
    await expect.poll(() => page.locator('.line').count(), { timeout: STEP_MS }).toBeGreaterThanOrEqual(lines - 10);
    await expect.poll(() => process.locator('td').nth(3).innerText(), { timeout: STEP_MS }).toBe('2');
    expect(errors.filter((error) => !/WebSocket|ERR_CONNECTION_REFUSED/.test(error))).toEqual([]);
  });
});
