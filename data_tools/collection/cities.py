"""Cities to search for: large and middling ones of all continents, with a country where the name alone is doubtful."""

from __future__ import annotations

_NAMES = """
New York; Los Angeles; Chicago; Houston; Phoenix; Philadelphia; San Antonio; San Diego; Dallas; Austin; Jacksonville;
Fort Worth; San Jose California; Columbus Ohio; Charlotte; Indianapolis; San Francisco; Seattle; Denver; Washington
DC; Nashville; Oklahoma City; Boston; Las Vegas; Portland Oregon; Detroit; Memphis; Baltimore; Milwaukee; Albuquerque;
Tucson; Sacramento; Kansas City; Atlanta; Raleigh; Miami; Minneapolis; Tampa; Orlando; Cleveland; Pittsburgh;
Cincinnati; St. Louis; Salt Lake City; Honolulu; Scottsdale; Boise; Naples Florida; Charleston; Toronto; Vancouver;
Montreal; Calgary; Ottawa; Edmonton; Winnipeg; Halifax; Victoria Canada; Quebec City; Mexico City; Guadalajara;
Monterrey; Cancun; Tulum; Panama City; San Jose Costa Rica; Bogota; Medellin; Lima; Quito; Santiago Chile; Buenos
Aires; Montevideo; Sao Paulo; Rio de Janeiro; Brasilia; Curitiba; Florianopolis; London; Manchester; Birmingham;
Liverpool; Leeds; Edinburgh; Glasgow; Bristol; Cardiff; Dublin; Cork; Paris; Lyon; Marseille; Nice; Bordeaux;
Toulouse; Brussels; Antwerp; Amsterdam; Rotterdam; The Hague; Berlin; Hamburg; Munich; Frankfurt; Cologne; Stuttgart;
Vienna; Zurich; Geneva; Milan; Rome; Florence; Turin; Naples Italy; Madrid; Barcelona; Valencia; Seville; Malaga;
Marbella; Lisbon; Porto; Algarve; Copenhagen; Stockholm; Gothenburg; Oslo; Helsinki; Reykjavik; Tallinn; Riga;
Vilnius; Warsaw; Krakow; Prague; Budapest; Bratislava; Ljubljana; Zagreb; Split; Belgrade; Bucharest; Sofia; Athens;
Thessaloniki; Limassol; Malta; Istanbul; Antalya; Ankara; Izmir; Tbilisi; Yerevan; Kyiv; Dubai; Abu Dhabi; Doha;
Riyadh; Kuwait City; Muscat; Tel Aviv; Amman; Beirut; Cairo; Casablanca; Marrakech; Tunis; Lagos; Abuja; Accra;
Nairobi; Kampala; Kigali; Dar es Salaam; Addis Ababa; Johannesburg; Cape Town; Durban; Pretoria; Mumbai; Delhi;
Bangalore; Hyderabad India; Chennai; Pune; Kolkata; Ahmedabad; Kochi; Karachi; Lahore; Islamabad; Dhaka; Colombo;
Kathmandu; Bangkok; Phuket; Chiang Mai; Pattaya; Singapore; Kuala Lumpur; Penang; Johor Bahru; Jakarta; Bali;
Surabaya; Manila; Cebu; Ho Chi Minh City; Hanoi; Da Nang; Phnom Penh; Hong Kong; Taipei; Shanghai; Beijing; Shenzhen;
Guangzhou; Tokyo; Osaka; Kyoto; Yokohama; Nagoya; Fukuoka; Sapporo; Seoul; Busan; Sydney; Melbourne; Brisbane; Perth;
Adelaide; Gold Coast; Canberra; Hobart; Auckland; Wellington; Christchurch; Queenstown
"""
CITIES: tuple[str, ...] = tuple(" ".join(name.split()) for name in _NAMES.split(";"))
TEMPLATES = ("{city}, real-estate, walk-through",)
