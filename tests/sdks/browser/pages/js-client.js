// LaunchDarkly's browser SDK, in the words of `browser.mjs`.

import { createClient } from '@launchdarkly/js-client-sdk';

let client;

window.sdk = {
  async start({ url, token, context, dataSystem }) {
    const uris = { baseUri: url, streamUri: url, eventsUri: url };
    const options = { ...uris, withReasons: true, streaming: true, sendEvents: false, diagnosticOptOut: true };
    client = createClient(token, context, dataSystem ? { ...options, dataSystem: {} } : options);
    const { status } = await client.start({ timeout: 20 });
    if (status !== 'complete') throw new Error(`start ended as ${status}`);
  },
  identify: (context) => client.identify(context),
  detail(key, otherwise) {
    const { value, reason } = client.variationDetail(key, otherwise);
    return { value, reason: reason?.errorKind ?? reason?.kind, ruleIndex: reason?.ruleIndex ?? null };
  },
  async report({ url, token, context, other, dataSystem }) {
    const uris = { baseUri: url, streamUri: url, eventsUri: url };
    const options = { ...uris, streaming: true, sendEvents: true, flushInterval: 2 };
    const reporter = createClient(token, context, dataSystem ? { ...options, dataSystem: {} } : options);
    await reporter.start({ timeout: 20 });
    const evaluate = (times, flag) => {
      for (let i = 0; i < times; i += 1) reporter.variation(flag, 'none');
    };
    evaluate(7, 'live-string');
    evaluate(5, 'live-rule');
    for (let i = 0; i < 2; i += 1) reporter.track('bought', { amount: 2 }, 19.5);
    await reporter.identify(other);
    evaluate(4, 'live-rule');
    evaluate(3, 'nobody-has-it');
    reporter.track('looked');
    await reporter.flush();
    await reporter.close();
  },
};
