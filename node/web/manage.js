/* The management page. Everything it shows comes from the operator API as JSON and is put into the
 * page as text, never as markup. Signed in with a cookie that this script cannot read. */
'use strict';

const PAGE_ROWS = 25;
const REFRESH_MS = 5000;

const byId = (id) => document.getElementById(id);

/* element('td', { class: 'ref' }, 'text', anotherElement) */
function element(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/* ---- the API ---- */

class Problem extends Error {
  constructor(status, document) {
    super(document.detail || document.title || `The node answered ${status}.`);
    this.status = status;
    this.code = document.code || '';
  }
}

async function call(method, path, options) {
  let answer;
  try {
    answer = await fetch(path, { method, credentials: 'same-origin', ...options });
  } catch {
    throw new Problem(0, { detail: 'The node does not answer.' });
  }
  const type = answer.headers.get('Content-Type') || '';
  const body = /[/+]json/.test(type) ? await answer.json() : {};
  if (!answer.ok && !(options && options.anyStatus)) throw new Problem(answer.status, body);
  return { body, status: answer.status, link: answer.headers.get('Link') || '' };
}

function nextPage(link) {
  const match = /<([^>]+)>;\s*rel="next"/.exec(link);
  return match ? match[1] : null;
}

/* ---- words ---- */

const numbers = new Intl.NumberFormat('en-GB');
const dates = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });
const spans = new Intl.RelativeTimeFormat('en-GB', { numeric: 'auto' });

function relative(ms) {
  const units = [['day', 86400000], ['hour', 3600000], ['minute', 60000]];
  for (const [unit, size] of units) {
    if (Math.abs(ms) >= size) return spans.format(Math.trunc(ms / size), unit);
  }
  return spans.format(Math.trunc(ms / 1000), 'second');
}

function when(text) {
  if (!text) return '–';
  const instant = new Date(text);
  return element('time', { datetime: text, title: dates.format(instant) },
    relative(instant.getTime() - Date.now()));
}

const day = (text) => element('time', { datetime: text, title: dates.format(new Date(text)) },
  text.slice(0, 10));
const reference = (text) => element('span', { class: 'ref' }, text);
const seats = (count) => `${numbers.format(count)} ${count === 1 ? 'seat' : 'seats'}`;

/* ---- notices and questions ---- */

function tell(text, bad) {
  const notice = byId('notice');
  notice.textContent = text;
  notice.className = bad ? 'notice bad' : 'notice';
  notice.hidden = false;
  notice.scrollIntoView({ block: 'nearest' });
}

/* Runs what an operator asked for; a problem is told, and the end of a session leads to signing in. */
async function attempt(work, busy) {
  if (busy) busy.disabled = true;
  try {
    return await work();
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (problem.status === 401 && !byId('content').hidden) showSignIn('The session is over.');
    else tell(problem.message, true);
    return undefined;
  } finally {
    if (busy) busy.disabled = false;
  }
}

function confirmed(title, text, yes) {
  const dialog = byId('confirm');
  byId('confirm-title').textContent = title;
  byId('confirm-text').textContent = text;
  byId('confirm-yes').textContent = yes;
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
  });
}

/* ---- node ---- */

function fact(name, value, bad) {
  return element('div', bad ? { class: 'bad' } : {}, element('dt', {}, name),
    element('dd', {}, value === null || value === undefined ? '–' : value));
}

function shown(value) {
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  return typeof value === 'number' ? numbers.format(value) : String(value);
}

async function showHealth() {
  const [health, ready] = await Promise.all([
    call('GET', '/-/health'), call('GET', '/-/ready', { anyStatus: true })]);
  const serves = ready.status === 200;
  const facts = [fact('Serving', serves ? 'yes' : (ready.body.detail || 'no'), !serves)];
  for (const [name, value] of Object.entries(health.body)) {
    if (value !== null && typeof value !== 'object' && name !== 'status') {
      const label = name[0].toUpperCase() + name.slice(1).replaceAll('_', ' ');
      facts.push(fact(label, shown(value), name.endsWith('alarm') && value));
    }
  }
  byId('health').replaceChildren(...facts);
  const badge = byId('node-badge');
  badge.textContent = serves ? 'ready' : 'not ready';
  badge.className = serves ? 'badge' : 'badge bad';
  badge.hidden = false;
}

/* ---- scopes ---- */

function bar(scope) {
  const parts = [
    ['in-use', scope.used - scope.waiting], ['waiting', scope.waiting], ['free', scope.free_here],
    ['peer', scope.at_peer], ['pending', scope.pending]];
  const whole = Math.max(scope.seats, parts.reduce((sum, [, count]) => sum + count, 0), 1);
  const label = `${seats(scope.used)} of ${numbers.format(scope.seats)} in use, `
    + `${numbers.format(scope.free_here)} free here`;
  const node = element('div', { class: 'bar', role: 'img', 'aria-label': label });
  for (const [name, count] of parts) {
    if (count > 0) {
      const part = element('span', { class: name });
      part.style.width = `${(100 * count) / whole}%`;
      node.append(part);
    }
  }
  return node;
}

function scopeCard(scope) {
  const facts = [`${numbers.format(scope.free_here)} free here`];
  if (scope.at_peer) facts.push(`${numbers.format(scope.at_peer)} at the other node`);
  if (scope.pending) facts.push(`${numbers.format(scope.pending)} not usable yet`);
  if (scope.waiting) facts.push(`${numbers.format(scope.waiting)} ended, not back yet`);
  const back = element('p', {}, facts.join(' · '));
  if (scope.free_here === 0 && scope.next_expected) {
    back.append(' · next one expected ', when(scope.next_expected));
  }
  return element('article', { class: 'scope' },
    element('h3', {}, scope.feature, element('span', { class: 'count' },
      `${numbers.format(scope.used)} / ${numbers.format(scope.seats)}`)),
    bar(scope), back,
    element('p', {}, `${scope.publisher}${scope.trusted ? '' : ' (no longer trusted)'} · until `,
      day(scope.ends)));
}

async function showScopes() {
  const { body } = await call('GET', '/-/scopes');
  const scopes = body.scope_list.filter((scope) => scope.seats || scope.used)
    .sort((a, b) => a.feature.localeCompare(b.feature) || a.publisher.localeCompare(b.publisher));
  const cards = scopes.map(scopeCard);
  byId('scopes').replaceChildren(...(cards.length ? cards
    : [element('p', { class: 'empty' }, 'No entitlement is installed yet.')]));
  const choice = byId('token-scope');
  const chosen = choice.value;
  choice.replaceChildren(element('option', { value: '' }, 'all features'),
    ...scopes.map((scope) => element('option', { value: scope.scope_ref },
      `${scope.feature} (${scope.publisher})`)));
  choice.value = scopes.some((scope) => scope.scope_ref === chosen) ? chosen : '';
  showTokenLink();
}

/* ---- lists, page by page ---- */

class Listing {
  constructor(name, empty, columns, first, rows) {
    Object.assign(this, { name, empty, columns, first, rows });
    this.next = null;
    byId(`${name}-first`).addEventListener('click', (event) => this.go(this.first(), event.target));
    byId(`${name}-next`).addEventListener('click', (event) => this.go(this.next, event.target));
    byId(`${name}-refresh`).addEventListener('click', (event) => this.go(this.here, event.target));
  }

  go(path, busy) {
    return attempt(() => this.show(path), busy);
  }

  async show(path) {
    this.here = path || this.here || this.first();
    const { body, link } = await call('GET', this.here);
    this.next = nextPage(link);
    const rows = this.rows(body);
    if (!rows.length) {
      rows.push(element('tr', {}, element('td', { colspan: this.columns, class: 'empty' }, this.empty)));
    }
    byId(this.name).replaceChildren(...rows);
    byId(`${this.name}-next`).disabled = !this.next;
    byId(`${this.name}-first`).disabled = this.here === this.first();
  }
}

function cell(label, ...children) {
  return element('td', { 'data-label': label }, element('div', {}, ...children));
}

function action(label, description, work) {
  const button = element('button', { type: 'button', class: 'quiet danger admin', 'aria-label': description },
    label);
  button.addEventListener('click', () => attempt(work, button));
  return element('td', { class: 'action' }, button);
}

const hostOf = (environment) => (environment && environment.hostname) || 'unnamed machine';

function leaseRow(lease) {
  const machine = hostOf(lease.origin && lease.origin.environment);
  const title = `${lease.feature} of ${machine}`;
  return element('tr', {},
    cell('Feature', lease.feature),
    cell('Seats', numbers.format(lease.count)),
    cell('Machine', machine, element('br'), reference(lease.lease_ref)),
    cell('State', lease.state),
    cell('Expires', when(lease.expires)),
    lease.state === 'active'
      ? action('Revoke…', `Revoke the lease ${title}`, () => revoke(lease, title))
      : element('td', { class: 'action' }));
}

async function revoke(lease, title) {
  const text = `${title}: ${seats(lease.count)}. The machine can no longer renew this lease. `
    + 'The seats come back as the entitlement allows.';
  if (!await confirmed('Revoke this lease?', text, 'Revoke')) return;
  await call('DELETE', `/-/lease/${lease.lease_ref}`);
  tell(`Revoked: ${title}.`);
  await Promise.all([leases.show(), showScopes()]);
}

function originRow(origin) {
  const environment = origin.environment || {};
  const system = [environment.os_platform, environment.os_version].filter(Boolean).join(' ');
  const host = hostOf(environment);
  return element('tr', {},
    cell('Host', host), cell('System', system || '–'),
    cell('Reference', reference(origin.origin_ref)),
    cell('Enrolled', when(origin.created)), cell('Updated', when(origin.updated)),
    action('Delete…', `Delete the machine ${host}`, () => deleteOrigin(origin, host)));
}

async function deleteOrigin(origin, host) {
  const text = `${host} loses its leases at once and must enrol again with a client token.`;
  if (!await confirmed('Delete this machine?', text, 'Delete')) return;
  await call('DELETE', `/-/origins/${origin.origin_ref}`);
  tell(`Deleted: ${host}.`);
  await showAll();
}

async function deleteOrigins() {
  const text = 'Every machine loses its leases at once and must enrol again with a client token.';
  if (!await confirmed('Delete all machines?', text, 'Delete all')) return;
  const { body } = await call('DELETE', '/-/origins');
  tell(`Deleted: ${numbers.format(body.deleted_count)} machines.`);
  await showAll();
}

async function purge() {
  const text = 'Ended leases whose time has passed everywhere are removed from the list. No seat changes hands.';
  if (!await confirmed('Purge ended leases?', text, 'Purge')) return;
  const { body } = await call('DELETE', '/-/leases/expired');
  tell(`Purged: ${numbers.format(body.purged_count)} leases.`);
  await leases.show(leases.first());
}

const leases = new Listing('leases', 'No lease.', 6, () => {
  const state = byId('lease-state').value;
  return `/-/leases?origin=true&limit=${PAGE_ROWS}${state ? `&state=${state}` : ''}`;
}, (body) => body.lease_list.map(leaseRow));

const origins = new Listing('origins', 'No machine has enrolled yet.', 6,
  () => `/-/origins?limit=${PAGE_ROWS}`, (body) => body.origin_list.map(originRow));

/* ---- entitlements ---- */

function entitlementCard(entitlement) {
  const features = entitlement.features.map((feature) => element('li', {},
    `${feature.feature}: ${seats(feature.seats)}, leases up to ${hours(feature.max_lease_seconds)}`));
  return element('article', { class: 'card' },
    element('h3', {}, `${entitlement.publisher}, revision ${entitlement.revision}`),
    element('p', {}, reference(entitlement.entitlement_ref)),
    element('p', {}, 'From ', day(entitlement.begins), ' until ', day(entitlement.ends),
      ', installed ', when(entitlement.installed),
      entitlement.trusted ? '' : '. Its publisher is no longer trusted: nothing new is granted.'),
    element('ul', {}, ...features));
}

function hours(seconds) {
  if (seconds % 86400 === 0) return `${seconds / 86400} d`;
  if (seconds % 3600 === 0) return `${seconds / 3600} h`;
  return `${numbers.format(seconds)} s`;
}

async function showEntitlements() {
  const { body } = await call('GET', '/-/entitlements');
  const cards = body.entitlement_list.map(entitlementCard);
  byId('entitlements').replaceChildren(...(cards.length ? cards
    : [element('p', { class: 'empty' }, 'None is installed yet.')]));
}

async function install() {
  const file = byId('install-file').files[0];
  const text = file ? await file.text() : byId('install-text').value;
  if (!text.trim()) throw new Problem(0, { detail: 'Choose a file, or paste the entitlement.' });
  const { body, status } = await call('POST', '/-/entitlements',
    { body: text.trim(), headers: { 'Content-Type': 'application/jose' } });
  byId('install').reset();
  const what = status === 201 ? 'Installed' : 'Already installed';
  tell(`${what}: ${body.publisher}, revision ${body.revision}. `
    + (body.usable ? 'Its seats can be leased now.' : 'Its seats wait for the other node.'));
  await Promise.all([showEntitlements(), showScopes()]);
}

function showTokenLink() {
  const days = byId('token-days');
  const scope = byId('token-scope').value;
  const link = byId('token-link');
  if (days.validity.valid) {
    link.href = `/-/client-token?expire_days=${days.value}${scope ? `&scope=${scope}` : ''}`;
  } else {
    link.removeAttribute('href');
  }
}

/* ---- signing in and out ---- */

function showSignIn(text) {
  byId('content').hidden = true;
  byId('sign-out').hidden = true;
  byId('sign-in').hidden = false;
  if (text) tell(text, true);
  byId('token').focus();
}

function showAll() {
  return Promise.all([showHealth(), showScopes(), leases.show(), origins.show(), showEntitlements()]);
}

async function enter(role) {
  byId('sign-in').hidden = true;
  if (role !== 'admin' && role !== 'viewer') {
    showSignIn('This token is for something else: the page needs an administrator’s or a viewer’s.');
    return;
  }
  document.body.classList.toggle('viewer', role === 'viewer');
  byId('content').hidden = false;
  byId('sign-out').hidden = false;
  await showAll();
}

async function signIn() {
  const field = byId('token');
  const { body } = await call('POST', '/-/session', {
    body: JSON.stringify({ token: field.value.trim() }), headers: { 'Content-Type': 'application/json' } });
  field.value = '';
  byId('notice').hidden = true;
  await enter(body.role);
}

async function signOut() {
  await call('DELETE', '/-/session');
  for (const id of ['leases', 'origins', 'scopes', 'entitlements']) byId(id).replaceChildren();
  showSignIn();
  tell('Signed out.');
}

async function start() {
  try {
    const { body } = await call('GET', '/-/session');
    await enter(body.role);
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    showSignIn(problem.status === 401 ? '' : problem.message);
  }
}

function onSubmit(id, work) {
  byId(id).addEventListener('submit', (event) => {
    event.preventDefault();
    attempt(work, event.submitter);
  });
}

function onClick(id, work) {
  byId(id).addEventListener('click', (event) => attempt(work, event.currentTarget));
}

onSubmit('sign-in-form', signIn);
onSubmit('install', install);
onClick('sign-out', signOut);
onClick('leases-purge', purge);
onClick('origins-delete', deleteOrigins);
byId('lease-state').addEventListener('change', () => leases.go(leases.first()));
byId('token-days').addEventListener('input', showTokenLink);
byId('token-scope').addEventListener('change', showTokenLink);
setInterval(() => {
  if (!document.hidden && !byId('content').hidden) attempt(() => Promise.all([showHealth(), showScopes()]));
}, REFRESH_MS);
start();
