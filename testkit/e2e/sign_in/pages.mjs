#!/usr/bin/env node
// The pages of a sign-in in a real browser: Chromium, driven headless. Every page of the server under test must be usable (axe), fit
// a narrow window, work in light and dark, hold no script and no style of its own, and keep within its content policy, also where a
// form sends the person on. Screenshots go to --shots.
//
//   pages.mjs ISSUER [--user NAME] [--password WORD] [--shots FOLDER] [--page PATH]…
import { createServer } from 'node:http';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';
import { here } from '../procs.mjs';
import { CALLBACK } from './known.mjs';
import { Server } from './talk.mjs';

const NARROW = 320; // WCAG 2.2, 1.4.10 Reflow
export const PATIENCE = 15_000;
const axe = () => readFileSync(here('node_modules/axe-core/axe.min.js'), 'utf8');
export const chromium = () => [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(path => path && existsSync(path));

/** The client, where the browser comes back to. */
async function listenAt(address, body, headers = {}) {
  const server = createServer((request, response) => response.writeHead(200, { 'content-type': 'text/html', ...headers }).end(body));
  await new Promise((resolve, reject) => server.once('error', reject).listen(address, '127.0.0.1', resolve));
  return { port: server.address().port, close: () => { server.closeAllConnections(); server.close(); } };
}

export async function withBrowser(work) {
  const { chromium: driver } = await import('playwright-core');
  const browser = await driver.launch({ executablePath: chromium(), args: process.getuid() === 0 ? ['--no-sandbox'] : [] });
  try {
    return await work(browser);
  } finally {
    await browser.close();
  }
}

/** A page whose violations of its policy are gathered, wherever it goes. */
export async function openPage(browser) {
  const context = await browser.newContext({ viewport: { width: 900, height: 800 } });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const violations = [];
  await page.exposeBinding('heardViolation', (_, text) => violations.push(text));
  await page.addInitScript(() => addEventListener('securitypolicyviolation', event => globalThis.heardViolation(`${event.effectiveDirective} blocks ${event.blockedURI || 'inline'} at ${location.pathname}`)));
  page.on('console', message => { if (/Content Security Policy|Refused to/.test(message.text())) violations.push(message.text().slice(0, 200)); });
  page.on('pageerror', error => violations.push(`a script fails: ${error.message}`));
  return { page, context, violations };
}

/** What is wrong with the page that is open; its headers are those of `response`. */
async function wrongWith(page, response, shots, name) {
  const wrong = [];
  const policy = response.headers()['content-security-policy'] ?? '';
  if (!/default-src 'none'/.test(policy)) wrong.push(`its policy does not begin with nothing: ${policy || 'none'}`);
  for (const part of ["frame-ancestors 'none'", "base-uri 'none'", 'form-action']) if (!policy.includes(part)) wrong.push(`its policy lacks ${part}`);
  if (/unsafe-|\*(?![\w.])|data:/.test(policy)) wrong.push(`its policy is loose: ${policy}`);
  const headers = { 'x-content-type-options': /^nosniff$/, 'x-frame-options': /^DENY$/i, 'referrer-policy': /^(no-referrer|same-origin)$/, 'cache-control': /no-store/ };
  for (const [header, good] of Object.entries(headers)) if (!good.test(response.headers()[header] ?? '')) wrong.push(`${header}: ${response.headers()[header] ?? 'is missing'}`);

  const inline = await page.evaluate(() => [...document.querySelectorAll('*')].flatMap(element => [
    ...(element.tagName === 'SCRIPT' ? ['a script'] : []), ...(element.tagName === 'STYLE' ? ['a style element'] : []),
    ...[...element.attributes].filter(({ name }) => name === 'style' || name.startsWith('on')).map(({ name }) => `${element.tagName.toLowerCase()} ${name}`),
  ]));
  if (inline.length) wrong.push(`it holds ${[...new Set(inline)].join(', ')}`);

  for (const scheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.evaluate(axe());
    const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
    for (const { id, impact, nodes } of violations) wrong.push(`axe, ${scheme}: ${id} (${impact}) at ${nodes[0].target.join(' ')}`);
    if (shots) await page.screenshot({ path: join(shots, `${name}-${scheme}.png`), fullPage: true });
  }
  await page.emulateMedia({ colorScheme: 'light' });
  const size = page.viewportSize();
  await page.setViewportSize({ width: NARROW, height: 800 });
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  if (width > NARROW) wrong.push(`it is ${width} px wide in a window of ${NARROW}`);
  if (shots) await page.screenshot({ path: join(shots, `${name}-narrow.png`), fullPage: true });
  await page.setViewportSize(size);
  return wrong;
}

/** Goes where a person goes, and then where `more` goes with {page, look, press}. Gives {ok, note, details}. */
export async function pagesTour(issuer, { user, password, shots, paths = ['/access'], more } = {}) {
  if (shots) mkdirSync(shots, { recursive: true });
  const server = await Server.at(issuer);
  const details = [], seen = [];
  const client = await listenAt(Number(new URL(CALLBACK).port), '<!doctype html><html lang="en"><title>Back</title><h1>Back at the client</h1></html>');
  await withBrowser(async browser => {
    const { page, violations } = await openPage(browser);
    const look = async (response, what) => {
      const name = `${String(seen.length + 1).padStart(2, '0')}-${what}`;
      seen.push(name);
      for (const wrong of await wrongWith(page, response, shots, name)) details.push(`${name}: ${wrong}`);
    };
    const clientId = await server.register();
    await look(await page.goto(server.authorizeUrl('nobody', 'v'.repeat(43))), 'error');
    let response = await page.goto(server.authorizeUrl(clientId, 'v'.repeat(43)));
    for (let count = 0; count < 10 && !page.url().startsWith(CALLBACK); count++) {
      if (response.status() >= 400) break;
      if (page.url().startsWith(issuer)) await look(response, new URL(page.url()).pathname.split('/').pop().slice(0, 12) || 'root');
      response = await pressOn(page, { user, password });
    }
    if (!page.url().startsWith(CALLBACK)) details.push(`the way ended at ${page.url()}`);
    else if (!new URL(page.url()).searchParams.has('code')) details.push(`it ended without a code: ${new URL(page.url()).search}`);
    for (const path of paths) {
      response = await page.goto(issuer + path);
      for (let count = 0; count < 10 && !page.url().startsWith(issuer + path) && response.status() < 400; count++) response = await pressOn(page, { user, password });
      await look(response, path.split('/').pop());
    }
    await more?.({ page, look, press: () => pressOn(page, { user, password }) });
    details.push(...violations);
  }).finally(client.close);
  return { ok: details.length === 0, note: `${seen.length} pages: ${seen.join(', ')}`, details };
}

/** Fills in what there is to fill in and presses the first button that says yes, or the first one. */
export async function pressOn(page, { user, password }) {
  for (const [selector, value] of [['input[name=login], input[name=username]', user], ['input[type=password]', password]]) {
    const field = page.locator(selector).first();
    if (value && await field.count()) await field.fill(value);
  }
  const buttons = page.locator('form button, form input[type=submit]');
  const named = buttons.filter({ hasText: /allow|accept|approve|continue|sign in/i });
  const button = (await named.count()) ? named.first() : buttons.first();
  const [response] = await Promise.all([page.waitForResponse(answer => answer.request().isNavigationRequest() && (answer.status() < 300 || answer.status() >= 400)), button.click()]);
  await page.waitForLoadState();
  return response;
}

/** That the eyes above are open: a page with much wrong, of which every fault must be named. */
export async function seesWhatIsWrong() {
  const bad = '<html><head><title>Bad</title><style>p{color:#888}</style></head><body onload="x()" style="margin:0"><hr width=900><input name=q><script>document.title = 1</script></body></html>';
  const server = await listenAt(0, bad, { 'content-security-policy': "default-src 'none'; style-src *" });
  try {
    return await withBrowser(async browser => {
      const { page, violations } = await openPage(browser);
      const response = await page.goto(`http://127.0.0.1:${server.port}/`);
      const wrong = [...await wrongWith(page, response), ...violations].join('\n');
      const wanted = { 'a script': /holds.*a script/, 'a style': /holds.*a style element/, 'a handler': /body onload/, 'a style attribute': /body style/, 'a loose policy': /loose/, 'no base': /lacks base-uri/, framing: /x-frame-options/, 'no language': /html-has-lang/, 'no label': /: label /, width: /px wide/, violations: /script-src(-elem)? blocks/ };
      const missed = Object.entries(wanted).filter(([, pattern]) => !pattern.test(wrong)).map(([name]) => name);
      return { ok: !missed.length, note: `${Object.keys(wanted).length} faults of a bad page`, details: missed.length ? [`not seen: ${missed.join(', ')}`, wrong] : [] };
    });
  } finally {
    server.close();
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const text = { type: 'string' };
  const { values, positionals: [issuer] } = parseArgs({ allowPositionals: true, options: { user: text, password: text, shots: text, page: { ...text, multiple: true } } });
  if (!chromium()) { console.error('there is no Chromium (Debian: apt-get install chromium), or CHROMIUM must say where'); process.exit(2); }
  const { ok, note, details } = issuer ? await pagesTour(issuer, { ...values, paths: values.page }) : await seesWhatIsWrong();
  details.forEach(detail => console.log(detail));
  console.log(`RESULT ${note}`);
  process.exit(ok ? 0 : 1);
}
