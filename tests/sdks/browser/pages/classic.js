// LaunchDarkly's classic browser SDK, in the words of `browser.mjs`.

import { initialize } from 'launchdarkly-js-client-sdk';

let client;

window.sdk = {
  async start({ url, token, context, useReport }) {
    const uris = { baseUrl: url, streamUrl: url, eventsUrl: url, useReport };
    client = initialize(token, context, { ...uris, evaluationReasons: true, streaming: true, sendEvents: false, diagnosticOptOut: true });
    await client.waitForInitialization(20);
  },
  identify: (context) => client.identify(context),
  detail(key, otherwise) {
    const { value, reason } = client.variationDetail(key, otherwise);
    return { value, reason: reason?.errorKind ?? reason?.kind, ruleIndex: reason?.ruleIndex ?? null };
  },
  async bootstrap({ token, context }, bootstrap) {
    const nobody = 'http://127.0.0.1:1';
    const uris = { baseUrl: nobody, streamUrl: nobody, eventsUrl: nobody };
    const options = { ...uris, bootstrap, evaluationReasons: true, sendEvents: false, diagnosticOptOut: true };
    const booted = initialize(token, context, options);
    await booted.waitForInitialization(20);
    const found = [booted.variation('live-string', 'none'), booted.variationDetail('live-rule', 'none').reason];
    await booted.close();
    return found;
  },
  async report({ url, token, context, other }) {
    const uris = { baseUrl: url, streamUrl: url, eventsUrl: url };
    // By itself this SDK reports a flag as evaluated when it changes, too.
    const options = { ...uris, streaming: true, flushInterval: 2000, sendEventsOnlyForVariation: true };
    const reporter = initialize(token, context, options);
    await reporter.waitForInitialization(20);
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
