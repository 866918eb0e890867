#!/usr/bin/env python3
"""Writes the golden values of the speech engines from the reference implementations in Python.

usage: make.py ASR_DIR TTS_DIR   (folders with decode.py and tts.py and their models; numpy, onnxruntime, pypinyin)

The test waveform is a formula with integer noise, so that both sides compute the same samples.
"""
import json, os, sys, numpy as np
H = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import decode, tts

def waveform(n=16000):
    seed, out = 1, []
    for i in range(n):
        seed = (seed * 1664525 + 1013904223) % 2**32
        noise = (seed >> 16) / 65536 - 0.5
        t = i / 8000
        gate = 1.0 if (i // 1600) % 3 else 0.1
        v = gate * (0.5 * np.sin(2*np.pi*(180*t + 40*t*t)) + 0.3 * np.sin(2*np.pi*(700*t + 300*t*t)) + 0.2*np.sin(2*np.pi*2400*t)) + 0.1 * noise
        out.append(int(np.floor(9000 * v + 0.5)))
    return np.array(out, np.int16)

def r(a, d=6): return [round(float(x), d) for x in np.ravel(a)]

x = waveform().astype(np.float32) / 32768
f = decode.features(x)
lp = decode.session().run(None, {'x': f})[0][0]
pick = [0, 3, 12, 25, 31, 47, len(lp) - 1]
phrases = ['订单', '转人工', '改到公司']
lb = decode.bias(lp.astype(np.float64), 1.0)
units = [decode.text2ids(p) for p in phrases]
json.dump({
    'rows': len(lp), 'pick': pick,
    'features': [r(f[0][k], 4) for k in pick[:4]],
    'posteriors': [r(np.exp(lp[k]), 5) for k in pick],
    'phrases': phrases, 'phrase_units': units,
    'phrase_scores': r(decode.phrase_scores(lb, units), 3),
    'best_path': round(float(lb.max(1).sum()), 3),
}, open(H + '/am.json', 'w'), ensure_ascii=False)

# the voice: 您好 请稍等 as units, durations and some decoder frames
net = tts.Net()
sy = [('n', 'in', 2), ('h', 'ao', 3), ('q', 'ing', 2), ('sh', 'ao', 1), ('d', 'eng', 3)]
rows = tts.rows(sy)
h, d = net.encode(rows)
sc = np.full((len(rows), 1), .85); sc[(rows[:, 0] >= 2) & (rows[:, 0] <= 22)] = .85**.7; sc[rows[:, 5] > 0] *= .85; sc[0] = sc[-1] = .5
dur = np.maximum(1, np.round(d * sc)).astype(int)
pi, ff = tts.place(dur)
y = net.decode(h, pi, ff)
seen = {}
real = tts.vocoder
tts.vocoder = lambda c, f0, b, **k: seen.update(c=c, f0=f0, b=b) or np.zeros(1)
tts.phrase(net, sy)
tts.vocoder = real
at = [0, 10, 40, 77, len(y) - 1]
json.dump({
    'rows': rows.tolist(), 'durations': dur.tolist(), 'frames10': len(pi), 'place_at': [0, 7, 30, len(pi) - 1],
    'place': [r(ff[k], 5) for k in (0, 7, 30, len(pi) - 1)], 'pi': [int(p) for p in pi],
    'net_at': at, 'net': [r(y[k], 4) for k in at],
    'f0': r(seen['f0'], 3), 'cepstra_at': at, 'cepstra': [r(seen['c'][k], 4) for k in at],
}, open(H + '/voice.json', 'w'))

# the vocoder: frames by formula; harmonic part sample by sample, noise part as band powers
class Mute:
    def randn(self, n): return np.zeros(n)
T = 24
k = np.arange(30)
c = np.array([np.where(k == 0, -3.0 + 0.05 * t, 1.2 * np.cos(0.7 * k + 0.11 * t) / (1 + k)) for t in range(T)])
f0 = np.array([0.0 if t in (0, 1, 11, 12, 13, 23) else 190.0 + 3.0 * t for t in range(T)])
b = np.array([-14.0 + 0.3 * t for t in range(T)])
har = tts.vocoder(c, f0, b, rng=Mute())
T2 = 600
c2 = np.repeat(c[5:6], T2, 0)
noise = tts.vocoder(c2, np.zeros(T2), np.full(T2, -10.0), rng=np.random.RandomState(3))
spec = (np.abs(np.fft.rfft(noise[800:800 + 256 * 88].reshape(88, 256) * np.hanning(256), axis=1))**2).mean(0)
bands = [10 * np.log10(spec[1 + 16 * i:17 + 16 * i].mean()) for i in range(7)]
json.dump({'samples': len(har), 'harmonic': r(har, 5), 'noise_bands_db': r(bands, 2)}, open(H + '/vocoder.json', 'w'))
